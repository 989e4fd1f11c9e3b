"""Leaves that import only each other; the version of the project."""

__version__ = "0.2.0"  # the newest heading of CHANGELOG.md
