"""Encoders of single modalities for classification: each gives its taps, from shallow to deep, and class scores."""
