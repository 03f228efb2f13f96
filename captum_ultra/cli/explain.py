"""``captum-ultra explain``: one token of a picture, or prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_ultra.cli.application import LatentScore, Method, app
from captum_ultra.cli.loading import Prompts, RandomWeights, load
from captum_ultra.cli.output import check_place

if TYPE_CHECKING:
    from captum_ultra.insights.explain import Explanation
    from captum_ultra.insights.prompts import PromptMaps


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    token: Annotated[
        str | None, typer.Option(help="The token: ROW,COL of a patch, or an index (0 is CLS where there is one).")
    ] = None,
    prompt: Prompts = None,
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    layer: Annotated[
        int | None, typer.Option(help="Blocks passed; negative from the end; the last if not given.")
    ] = None,
    method: Method = "ultra",
    score: LatentScore = None,
    blocks: Annotated[
        str | None, typer.Option(help="Name of the list of blocks, e.g. encoder.layers, if it is not found.")
    ] = None,
    interpolation: Annotated[
        str, typer.Option(help="How the map is enlarged: bilinear, bicubic or nearest.")
    ] = "bilinear",
    random_weights: RandomWeights = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A figure (.png, .pdf, .svg, ...) or .npz for the numbers.")
    ] = Path("out.png"),
) -> None:
    """Explain one token of a picture, or what speaks for a text; write a figure, or the maps themselves."""
    from captum_ultra.adapters.text_head import check_prompts
    from captum_ultra.attr.attribution import DEFAULT_SCORE
    from captum_ultra.attr.methods.titles import method_title
    from captum_ultra.insights.explain import explain_image
    from captum_ultra.insights.figures import check_suffix, save_figure
    from captum_ultra.insights.prompts import check_prompt_method, explain_prompts
    from captum_ultra.io import read_image

    # Whatever can be wrong without the model is found before the model is loaded.
    wanted = None if token is None else _parse_token(token)
    scalar = DEFAULT_SCORE if score is None else score.value
    explained = method_title(method, scalar)
    if (wanted is None) == (not prompt):
        raise ValueError("give either --token ROW,COL, or --prompt TEXT with a model of images and texts")
    if prompt:
        check_prompts(prompt)
        check_prompt_method(method)
        if layer is not None or score is not None:
            raise ValueError("--layer and --score are of a token; a prompt is explained at the end: leave them away")
    check_place(output)
    numbers = output.suffix.lower() == ".npz"
    if not numbers:
        check_suffix(output)
    picture = read_image(image)

    loaded = load(model, random_weights)
    found: Explanation | PromptMaps
    if wanted is None:
        found = explain_prompts(
            loaded, picture, prompt or (), method=method, blocks=blocks, interpolation=interpolation
        )
        what = f"{', '.join(map(repr, found.prompts))} in {image.name}, {loaded.name}"
    else:
        found = explain_image(
            loaded, picture, wanted, -1 if layer is None else layer, method=method, score=scalar, blocks=blocks,
            interpolation=interpolation,
        )  # fmt: skip
        what = f"token {wanted} of {image.name}, {loaded.name}, layer {found.layer}, {explained}"
    if numbers:
        found.save_npz(output)
    else:
        save_figure(found.figure(), output)
    typer.echo(f"{what}: {output}")


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
