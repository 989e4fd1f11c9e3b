"""Tasks by name: modules with `METRIC`, `losses`, `predict` and `make_evaluator`."""

from engine.tasks import detection

TASKS = {"detection": detection}
