"""``captum-ultra segment``: pictures divided by what their tokens hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_ultra.cli.application import INCOMPLETE, Method, Score, app
from captum_ultra.cli.loading import RandomWeights, load

if TYPE_CHECKING:
    from captum_ultra.models.loader import LoadedModel


@app.command()
def segment(
    images: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.", show_default=False)],
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
    method: Method = "ultra",
    score: Annotated[Score, typer.Option(help="Scalar of the latents that are explained.")] = Score.sum,
    k: Annotated[int | None, typer.Option("--k", help="Number of clusters of every picture.", min=1)] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Distance up to which maps are joined, 0.4 unless --k is given.", min=0)
    ] = None,
    smooth: Annotated[int, typer.Option(help="Side of the window of a majority vote, odd; 0 for none.", min=0)] = 0,
    landmarks: Annotated[int | None, typer.Option(help="Explain at most so many tokens; all if not given.")] = None,
    blocks: Annotated[
        str | None, typer.Option(help="Name of the list of blocks, e.g. encoder.layers, if it is not found.")
    ] = None,
    random_weights: RandomWeights = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of what is written.")] = Path("out"),
) -> None:
    """Segment pictures by their tokens' explanations; write labels, overlays and a page that shows them."""
    from captum_ultra.attr.methods.titles import method_title
    from captum_ultra.insights.segment_folder import KINDS, find_pictures, segment_folder
    from captum_ultra.segmentation import LatentTokenSegmenter, SegmentationRule
    from captum_ultra.segmentation.cutting import Cut

    # Whatever can be wrong without the model is found before the model is loaded.
    explained = method_title(method, score.value)
    cut, rule = Cut.parse(k, threshold), SegmentationRule(smooth=smooth)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {str(output)!r} is a file; give a folder.")
    if images.is_dir() and output.resolve() in (images.resolve(), *images.resolve().parents):
        raise ValueError(f"--output {str(output)!r} holds the pictures themselves; give a folder for the results alone")
    pictures = find_pictures(images, leave_out=output)
    _check_left(output, pictures)

    loaded = load(model, random_weights)
    segmenter = LatentTokenSegmenter(
        loaded.model, layer, score.value, k, cut.threshold or 0.0, rule=rule, landmarks=landmarks, method=method,
        blocks=blocks,
    )  # fmt: skip
    summary = f"{loaded.name}, layer {_number(loaded, layer, blocks, pictures)}, {explained}, {cut}"
    outcome = segment_folder(loaded, segmenter, pictures, output, summary, report=_report, show_progress=None)
    done = {entry.source for entry in outcome.entries}
    for file, name in pictures:  # what an earlier run made of them
        for kind in KINDS if str(file) not in done else ():
            (output / kind / name).unlink(missing_ok=True)
    typer.echo(f"{summary}: {len(outcome.entries)} of {len(pictures)} pictures segmented. See {outcome.page}")
    if outcome.failed:
        raise typer.Exit(INCOMPLETE)


def _check_left(output: Path, pictures: list[tuple[Path, str]]) -> None:
    """Raise where files would be overwritten that are pictures, or lie beside the results that are none of them."""
    from captum_ultra.insights.segment_folder import KINDS

    written = {(output / kind / name).resolve() for kind in KINDS for _, name in pictures}
    for file, _ in pictures:
        if file.resolve() in written:
            raise ValueError(f"{str(file)!r} would be overwritten by its result; give another folder as --output")
    found = (each for kind in KINDS for each in sorted((output / kind).rglob("*")) if each.is_file())
    for each in found:
        if each.resolve() not in written:
            raise ValueError(f"{str(each)!r} is no result of these pictures; delete it, or give another --output")


def _number(loaded: LoadedModel, layer: int, blocks: str | None, pictures: list[tuple[Path, str]]) -> int:
    """The layer as a number of blocks passed, asked with the first picture that can be read."""
    from captum_ultra.attr.latents import LatentReader
    from captum_ultra.io import read_image

    for file, _ in pictures if loaded.preprocess is not None else ():
        try:
            inputs = loaded.preprocess(read_image(file))  # type: ignore[misc]
        except ValueError:
            continue
        return LatentReader(loaded.model, layer, blocks).number(inputs)
    return layer


def _report(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"captum-ultra: {' '.join(message.split())}", file=sys.stderr)
