"""The command line, one command a module.

What a command needs is imported inside it: help and messages about bad input come at once.
"""

# A command joins when its module is imported.
from captum_ultra.cli import compare, contribute, demo, describe, evaluate, explain, insights, models, segment  # noqa: F401
from captum_ultra.cli.application import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the console script."""
    app()
