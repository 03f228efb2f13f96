"""``captum-ultra describe``: what can be explained of a model, and why not the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captum_ultra.cli.application import app
from captum_ultra.cli.loading import RandomWeights, load


@app.command()
def describe(
    model: Annotated[str, typer.Argument(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    image: Annotated[Path | None, typer.Option(help="A picture; a grey one if not given.")] = None,
    text: Annotated[str, typer.Option(help="The text that a language model is described on.")] = "The quick brown fox.",
    random_weights: RandomWeights = False,
    methods: Annotated[bool, typer.Option(help="Try every method.")] = True,
) -> None:
    """Say which blocks are followed, how the tokens are laid out, which methods work and what they cost."""
    import torch
    from PIL import Image

    from captum_ultra.attr.describe import describe as described
    from captum_ultra.io import read_image

    picture = Image.new("RGB", (224, 224), "grey") if image is None else read_image(image)
    loaded = load(model, random_weights)
    if loaded.preprocess is None:
        inputs = torch.tensor([loaded.tokenizer(text)["input_ids"]])
    else:
        inputs = loaded.preprocess(picture)
    found = described(loaded.model, inputs, methods=methods, show_progress=True)
    typer.echo(loaded.name)
    typer.echo(str(found))
    if found.refusal is not None:
        raise typer.Exit(1)
