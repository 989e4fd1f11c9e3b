"""Fusion of real posters and plots: MM-IMDB's commands on a small set in the raw form, beside linear baselines."""
