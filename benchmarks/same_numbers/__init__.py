"""Whether two commits compute the same numbers, on tiny data: see `__main__.py`."""
