"""Tasks: what engine/step.py calls a `Task`."""
