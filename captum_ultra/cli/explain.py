"""``captum-ultra explain``: one token of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captum_ultra.cli.application import LatentScore, Method, app


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    token: Annotated[
        str, typer.Option(help="The token: ROW,COL of a patch, or an index (0 is CLS where there is one).")
    ],
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
    method: Method = "ultra",
    score: LatentScore = None,
    blocks: Annotated[
        str | None, typer.Option(help="Name of the list of blocks, e.g. encoder.layers, if it is not found.")
    ] = None,
    interpolation: Annotated[
        str, typer.Option(help="How the map is enlarged: bilinear, bicubic or nearest.")
    ] = "bilinear",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Build the model untrained; nothing is downloaded.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A figure (.png, .pdf, .svg, ...) or .npz for the numbers.")
    ] = Path("out.png"),
) -> None:
    """Explain one token of a picture and write a figure, or the map itself."""
    from captum_ultra.attr.attribution import DEFAULT_SCORE
    from captum_ultra.attr.methods.titles import method_title
    from captum_ultra.insights.explain import explain_image, read_image
    from captum_ultra.insights.figures import check_suffix, save_figure
    from captum_ultra.models.loader import load_model

    # Whatever can be wrong without the model is found before the model is loaded.
    wanted, scalar = _parse_token(token), DEFAULT_SCORE if score is None else score.value
    explained = method_title(method, scalar)
    numbers = output.suffix.lower() == ".npz"
    if not numbers:
        check_suffix(output)
    picture = read_image(image)

    loaded = load_model(model, pretrained=not random_weights)
    found = explain_image(
        loaded, picture, wanted, layer, method=method, score=scalar, blocks=blocks, interpolation=interpolation
    )
    if numbers:
        found.save_npz(output)
    else:
        save_figure(found.figure(), output)
    typer.echo(f"token {wanted} of {image.name}, {model}, layer {layer}, {explained}: {output}")


def _parse_token(text: str) -> int | tuple[int, int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    raise ValueError(f"--token {text!r} is neither ROW,COL (such as 3,7) nor an index (such as 42).")
