"""``captum-ultra evaluate``: the studies of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captum_ultra.cli.application import app


@app.command()
def evaluate(
    study: Annotated[str, typer.Argument(help="ultra-segmentation, -object-selection, -perturbation, -layers, ...")],
    data: Annotated[str, typer.Option(help="voc, coco-stuff, cityscapes, potsdam or scenes.")] = "scenes",
    root: Annotated[Path | None, typer.Option(help="Where the data set's archives were unpacked.")] = None,
    split: Annotated[str, typer.Option(help="The part of the data set.")] = "val",
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Build the model untrained.")] = False,
    score: Annotated[str, typer.Option(help="sum, energy, or w: ULTra_W, trained first.")] = "sum",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
    images: Annotated[int | None, typer.Option(help="How many; all (100 scenes) if not given.")] = None,
    k: Annotated[
        int | None, typer.Option("--k", help="Clusters of every image; the truth's (oracle) if not given.")
    ] = None,
    zeta: Annotated[float | None, typer.Option(help="In place of k, the distance up to which maps are joined.")] = None,
    values: Annotated[str, typer.Option(help="Layers, taus, zetas or shares of a study over them: 0.2,0.4")] = "",
    size: Annotated[int | None, typer.Option(help="Side of the square cut out of images; the protocol's 320.")] = None,
    seed: Annotated[int, typer.Option(help="Of scenes, chosen images, tokens and noise.")] = 0,
    noise: Annotated[float, typer.Option(help="On scenes: its standard deviation, pixels being in 0..1.")] = 0.0,
    train_split: Annotated[str, typer.Option(help="Where ULTra_W is trained, without labels.")] = "train",
    train_images: Annotated[int, typer.Option(help="On how many images.")] = 256,
    train_k: Annotated[int | None, typer.Option(help="Regions of each of them; by distance 0.4 if not given.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of this evaluation; it goes on there.")] = Path(
        "out"
    ),
) -> None:
    """Run a study of the ULTra paper, or finish it; print measured numbers beside published ones."""
    from captum_ultra.experiments.evaluate import Options
    from captum_ultra.experiments.evaluate import evaluate as run
    from captum_ultra.segmentation.ultra_w_settings import UltraWSettings

    options = Options(
        study, data, split, model, random_weights, score, layer, images, k, zeta, _parse_numbers(values), size, seed,
        noise, train_split, UltraWSettings(samples=train_images, n_clusters=train_k),
    )  # fmt: skip
    typer.echo(run(options, output, root, device=device, show_progress=True))
    typer.echo(f"See {output / 'report.json'}, .csv, .txt and .png")


def _parse_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part)
    except ValueError:
        raise ValueError(f"--values {text!r} must be numbers with commas between them, such as 0.2,0.4") from None
