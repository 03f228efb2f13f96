"""``captum-ultra insights``: a page to explore the tokens of a picture or a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from captum_ultra.cli.application import Score, app
from captum_ultra.cli.loading import RandomWeights, load
from captum_ultra.cli.output import check_place


@app.command()
def insights(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="A picture; or a text file; or two, a context and its summary.", show_default=False),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model's name; give it again for models side by side. [scenes-vit, or facts-llama]"),
    ] = None,
    layers: Annotated[str, typer.Option(help="Blocks passed, e.g. 3,6,-1; all when empty.")] = "",
    method: Annotated[
        list[str] | None,
        typer.Option(help="What the page offers: ultra, residual, ...; give it again for several. [ultra]"),
    ] = None,
    score: Annotated[
        list[Score] | None, typer.Option(help="Explained by each method; give it again for several. [sum, energy]")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Show the methods and scores side by side.")] = False,
    separator: Annotated[str, typer.Option(help="Between context and summary; \\n is a line break.")] = "\\nTL;DR:",
    segmentation: Annotated[
        bool, typer.Option("--segmentation/--no-segmentation", help="Let the reader cut the tree of the maps.")
    ] = True,
    blocks: Annotated[
        str | None, typer.Option(help="Name of the list of blocks, e.g. encoder.layers, if it is not found.")
    ] = None,
    random_weights: RandomWeights = False,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page (.html).")] = Path("out.html"),
) -> None:
    """Write a page on which you point at tokens and see what they rest on."""
    from captum_ultra.insights.explorer.explorer import check_page

    # Whatever can be wrong without the model is found before the model is loaded.
    check_page(output)
    check_place(output)
    numbers = _numbers(layers)
    methods = _methods(method or ["ultra"], [each.value for each in score or list(Score)])
    if compare and len(methods) < 2:
        raise ValueError(
            "--compare needs two methods or scores of ULTra; give --method again with another name, such as "
            "--method ultra --method residual"
        )
    given, kind = _read(inputs)
    names = list(dict.fromkeys(model or ["scenes-vit" if kind == "image" else "facts-llama"]))

    from captum_ultra.insights import explore

    models = {loaded.name: loaded for loaded in (load(name, random_weights) for name in names)}
    for name, loaded in models.items():
        if kind not in loaded.kind:
            raise ValueError(f"{name!r} reads {loaded.kind}, and {inputs[0].name} is of the kind {kind}")
    explore(
        models, given, numbers, methods=methods, compare=list(methods) if compare else None,
        segmentation=segmentation, separator=separator.replace("\\n", "\n"), blocks=blocks,
        title=title or inputs[0].name, show_progress=True,
    ).save(output)  # fmt: skip
    typer.echo(f"{', '.join(path.name for path in inputs)}, {', '.join(models)}: {output}")


def _methods(names: list[str], scores: list[str]) -> dict[str, Any]:
    """Every method with every score; once where the score plays no part."""
    from captum_ultra.attr.methods import find_method
    from captum_ultra.insights.explorer import named_methods

    of = {name: scores if find_method(name).needs_class else scores[:1] for name in names}
    return named_methods([(name, score) for name in names for score in of[name]])


def _numbers(text: str) -> list[int] | None:
    if not text.strip():
        return None
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise ValueError(f"--layers {text!r} is no list of numbers such as 3,6,-1") from None


def _read(paths: list[Path]) -> tuple[Any, str]:
    """The picture, the text, or (context, summary), and which kind of model reads it."""
    from PIL import Image

    from captum_ultra.insights.contribute import read_text
    from captum_ultra.io import read_image

    pictures = [path for path in paths if path.suffix.lower() in Image.registered_extensions()]
    if pictures and len(paths) > 1:
        raise ValueError(f"one picture makes a page, and {len(paths)} files were given; write a page for each")
    if pictures:
        return read_image(paths[0]), "image"
    if len(paths) > 2:
        raise ValueError(f"a text, or a context and its summary, make a page; {len(paths)} files were given")
    texts = [read_text(path) for path in paths]
    if len(texts) == 1:
        return texts[0], "text"
    summary = texts[1]
    return (texts[0], summary if summary[0].isspace() else f" {summary}"), "text"
