"""Measurements: one script per claim, each appending rows to results/*.csv."""
