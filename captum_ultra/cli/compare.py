"""``captum-ultra compare``: explanations of a class side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_ultra.cli.application import INCOMPLETE, app
from captum_ultra.cli.loading import Prompts, RandomWeights, load
from captum_ultra.cli.output import check_place

if TYPE_CHECKING:
    from PIL.Image import Image

    from captum_ultra.insights.compare import Comparison


@app.command()
def compare(
    images: Annotated[list[Path], typer.Argument(help="One picture or several.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="A classifier's name; `captum-ultra models` shows which.")
    ] = "scenes-classifier",
    target: Annotated[
        str | None, typer.Option(help="The explained class, a number or a name; the predicted one if not given.")
    ] = None,
    prompt: Prompts = None,
    methods: Annotated[str, typer.Option(help="all, or names: gae,token_tm,...")] = "all",
    blocks: Annotated[
        str | None, typer.Option(help="Name of the list of blocks, e.g. encoder.layers, if it is not found.")
    ] = None,
    random_weights: RandomWeights = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A figure (.png, .pdf, .svg, ...) or .npz for the numbers.")
    ] = Path("out.png"),
) -> None:
    """Explain a class of a picture by several methods; write their maps side by side, with runtimes."""
    from captum_ultra.adapters.text_head import check_prompts
    from captum_ultra.attr.methods import find_methods
    from captum_ultra.insights.compare import compare_pictures
    from captum_ultra.insights.figures import check_suffix, save_figure

    # Whatever can be wrong without the model is found before the model is loaded.
    check_place(output)
    numbers = output.suffix.lower() == ".npz"
    if not numbers:
        check_suffix(output)
    chosen = find_methods(methods)
    if target is not None and not target.strip():
        raise ValueError("--target is blank: give a class, by its number or its name")
    if prompt:
        check_prompts(prompt)
    pictures, failed = _read(images)

    loaded = load(model, random_weights)
    found = compare_pictures(loaded, pictures, target, chosen, prompts=prompt or (), blocks=blocks, show_progress=None)
    if numbers:
        found.save(output)
    else:
        save_figure(found.figure(), output)
    _report(found)
    for reason in failed:
        typer.echo(f"captum-ultra: {reason}", err=True)
    typer.echo(f"{loaded.name}: {output}")
    if failed:
        raise typer.Exit(INCOMPLETE)


def _read(images: list[Path]) -> tuple[list[tuple[str, Image]], list[str]]:
    """Names and pictures, and why others could not be read.

    Raises:
        ValueError: a file is not there, or none is a picture.
    """
    from captum_ultra.io import read_image

    pictures, failed = [], []
    for image in images:
        if not image.exists():
            raise ValueError(f"there is no picture {str(image)!r}.")
        try:
            pictures.append((image.name, read_image(image)))
        except ValueError as error:
            failed.append(str(error))
    if not pictures:
        raise ValueError("; ".join(failed))
    return pictures, failed


def _report(found: Comparison) -> None:
    """What was explained, how long each method took, and on stderr which one refused the model."""
    for name, target, predicted, chances in zip(
        found.names, found.targets, found.predicted, found.probabilities, strict=True
    ):
        if target < 0:
            typer.echo(f"{name}: {found.model} has no classes")
            continue
        guess = f"predicted {found.class_name(predicted)} (class {predicted}, probability {chances[1]:.3f})"
        other = f"; explained {found.class_name(target)} (class {target}, probability {chances[0]:.3f})"
        typer.echo(f"{name}: {guess}{other if target != predicted else ''}")
    for method, times in zip(found.methods, found.milliseconds.T, strict=True):
        if method in found.refused:
            typer.echo(f"captum-ultra: {method}: {found.refused[method]}", err=True)
        else:
            typer.echo(f"{method:24}{times.mean():10.1f} ms")
