"""``captum-ultra models``: what can be loaded by name."""

from __future__ import annotations

import typer

from captum_ultra.cli.application import app


@app.command()
def models() -> None:
    """List what can be loaded, and how."""
    from captum_ultra.models.loader import available_models

    for name, sentence in available_models():
        typer.echo(f"{name:28}{sentence}")
