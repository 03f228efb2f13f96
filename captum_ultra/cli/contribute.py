"""``captum-ultra contribute``: which words of a text a summary rests on."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from captum_ultra.cli.application import LatentScore, app
from captum_ultra.cli.output import check_place


class Position(str, Enum):
    """Which latents are explained."""

    token = "token"
    prediction = "prediction"


@app.command()
def contribute(
    context: Annotated[Path, typer.Option(help="A text file, in UTF-8.", show_default=False)],
    summary: Annotated[str, typer.Option(help="The text that rests on it; begin it with a blank.", show_default=False)],
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "facts-llama",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
    method: Annotated[
        str | None,
        typer.Option(help="ultra, residual, rollout, ...; conservative, with constant gates, if not given."),
    ] = None,
    score: LatentScore = None,
    position: Annotated[
        Position, typer.Option(help="Latents at the summary's tokens, or those before, which predict them.")
    ] = Position.prediction,
    separator: Annotated[str, typer.Option(help="Between context and summary; \\n is a line break.")] = "\\nTL;DR:",
    words: Annotated[bool, typer.Option("--words/--tokens", help="What the list on the screen shows.")] = True,
    top: Annotated[int, typer.Option(help="How many words or tokens it shows.", min=1)] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A page (.html), a figure (.png, .pdf, ...), .json or .safetensors.")
    ] = Path("out.html"),
) -> None:
    """Say which tokens of a text a summary rests on, and write the text, coloured, or the numbers."""
    from captum_ultra.attr.attribution import DEFAULT_SCORE
    from captum_ultra.attr.contribution.documents import check_text
    from captum_ultra.attr.methods import find_method
    from captum_ultra.insights.contribute import check_output, contribution_of, read_text, save_contribution
    from captum_ultra.models.loader import load_model

    # Whatever can be wrong without the model is found before the model is loaded.
    check_output(output)
    check_place(output)
    text = read_text(context)
    check_text(summary, "summary")
    scalar = DEFAULT_SCORE if score is None else score.value
    if method is not None:
        find_method(method)
    found = contribution_of(
        load_model(model),
        text,
        summary,
        separator=separator.replace("\\n", "\n"),
        layer=layer,
        method=method,
        score=scalar,
        position=position.value,
    )
    save_contribution(found, output)
    pieces = sorted(found.words(), key=lambda piece: -piece.score)[:top] if words else found.top(top)
    for piece in pieces:
        typer.echo(f"{piece.score:10.4g}  {piece.text!r}")
    typer.echo(f"{context.name}, {model}, layer {found.layer}, {found.method_title}: {output}")
