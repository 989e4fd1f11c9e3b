"""Commands around the three mains: the demo, pictures."""
