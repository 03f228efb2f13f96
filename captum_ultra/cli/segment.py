"""``captum-ultra segment``: pictures divided by what their tokens hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from captum_ultra.cli.application import Method, Score, app

_INCOMPLETE = 1


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
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Build the model untrained; nothing is downloaded.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of what is written.")] = Path("out"),
) -> None:
    """Segment pictures by their tokens' explanations; write labels, overlays and a page that shows them."""
    from captum_ultra.attr.methods.titles import method_title
    from captum_ultra.insights.segment_folder import find_pictures, segment_folder
    from captum_ultra.models.loader import load_model
    from captum_ultra.segmentation import LatentTokenSegmenter, SegmentationRule
    from captum_ultra.segmentation.cutting import Cut

    # Whatever can be wrong without the model is found before the model is loaded.
    explained = method_title(method, score.value)
    cut, rule = Cut.parse(k, threshold), SegmentationRule(smooth=smooth)
    pictures = find_pictures(images, leave_out=output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {str(output)!r} is a file; give a folder.")

    loaded = load_model(model, pretrained=not random_weights)
    segmenter = LatentTokenSegmenter(
        loaded.model, layer, score.value, k, cut.threshold or 0.0, rule=rule, landmarks=landmarks, method=method,
        blocks=blocks,
    )  # fmt: skip
    summary = f"{model}, layer {layer}, {explained}, {cut}"
    outcome = segment_folder(loaded, segmenter, pictures, output, summary, report=_report, show_progress=None)
    typer.echo(f"{summary}: {len(outcome.entries)} of {len(pictures)} pictures segmented. See {outcome.page}")
    if outcome.failed:
        raise typer.Exit(_INCOMPLETE)


def _report(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"captum-ultra: {' '.join(message.split())}", file=sys.stderr)
