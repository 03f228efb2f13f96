"""``captum-ultra evaluate``: the studies of the papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_ultra.cli.application import app

if TYPE_CHECKING:
    from captum_ultra.experiments.evaluate.options import StudyOptions

_ULTRA, _TOKEN_TM = "Studies of ULTra (ultra-...)", "Studies of TokenTM (tokentm-...)"


@app.command()
def evaluate(
    study: Annotated[
        str,
        typer.Argument(
            help="ultra-segmentation, -object-selection, -perturbation, -layers, -tau, -zeta; "
            "tokentm-localization, -accuracy, -probability, -ablation"
        ),
    ],
    data: Annotated[
        str, typer.Option(help="scenes; ultra: voc, coco-stuff, ...; tokentm: imagenet-seg, imagenet, ...")
    ] = "scenes",
    root: Annotated[Path | None, typer.Option(help="Where the data set's archives were unpacked.")] = None,
    split: Annotated[str | None, typer.Option(help="The part of the data set; the tables' if not given.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's name; `captum-ultra models` shows which. One for scenes if not given.")
    ] = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Build the model untrained.")] = False,
    images: Annotated[int | None, typer.Option(help="How many; all (100 scenes) if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of scenes, chosen images, tokens and noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of this evaluation; it goes on there.")] = Path(
        "out"
    ),
    score: Annotated[
        str | None,
        typer.Option(help="sum (if not given), energy, or w: ULTra_W, trained first.", rich_help_panel=_ULTRA),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Blocks passed; negative from the end; last if not given.", rich_help_panel=_ULTRA),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", help="Clusters of every image; the truth's (oracle) if not given.", rich_help_panel=_ULTRA),
    ] = None,
    zeta: Annotated[
        float | None,
        typer.Option(help="In place of k, the distance up to which maps are joined.", rich_help_panel=_ULTRA),
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(help="Layers, taus, zetas or shares of a study over them: 0.2,0.4", rich_help_panel=_ULTRA),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the square cut out of images; the protocol's 320.", rich_help_panel=_ULTRA),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(help="On scenes: its standard deviation, pixels being in 0..1.", rich_help_panel=_ULTRA),
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Where ULTra_W is trained, without labels (train).", rich_help_panel=_ULTRA)
    ] = None,
    train_images: Annotated[int | None, typer.Option(help="On how many images (256).", rich_help_panel=_ULTRA)] = None,
    train_k: Annotated[
        int | None,
        typer.Option(help="Regions of each of them; by distance 0.4 if not given.", rich_help_panel=_ULTRA),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="all (if not given), or names: gae,token_tm", rich_help_panel=_TOKEN_TM)
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(help="The class that is explained: predicted, target, or both.", rich_help_panel=_TOKEN_TM),
    ] = None,
) -> None:
    """Run a study of the ULTra or the TokenTM paper, or finish it; print measured numbers beside published ones."""
    from captum_ultra.experiments.evaluate import evaluate as run

    options = _options(
        study, data=data, split=split, model=model, random_weights=random_weights, images=images, seed=seed,
        score=score, layer=layer, k=k, zeta=zeta, values=None if values is None else _parse_numbers(values), size=size,
        noise=noise, train_split=train_split, training=_training(train_images, train_k),
        methods=None if methods is None else _parse_methods(methods),
        explained=None if explain is None else _parse_classes(explain),
    )  # fmt: skip
    typer.echo(run(options, output, root, device=device, show_progress=True))
    typer.echo(f"See {output / 'report.json'}, .csv, .txt and .png")


_FLAGS = {"training": "--train-images and --train-k", "explained": "--explain"}


def _options(study: str, **values: Any) -> StudyOptions:
    """The options of a study's family, out of what was given.

    Raises:
        ValueError: for a study that does not exist, or an option that it does not have.
    """
    from dataclasses import fields

    from captum_ultra.experiments.evaluate.registry import find_study

    options_class = find_study(study).options_class
    given = {name: value for name, value in values.items() if value is not None}
    strange = sorted(set(given) - {field.name for field in fields(options_class)})
    if strange:
        flag = _FLAGS.get(strange[0], f"--{strange[0].replace('_', '-')}")
        raise ValueError(f"{study} has no {flag}: leave it away")
    return options_class(study, **given)


def _training(images: int | None, k: int | None) -> Any:
    from captum_ultra.segmentation.ultra_w_settings import UltraWSettings

    given = {"samples": images, "n_clusters": k}
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return UltraWSettings(**found) if found else None


def _parse_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part)
    except ValueError:
        raise ValueError(f"--values {text!r} must be numbers with commas between them, such as 0.2,0.4") from None


def _parse_methods(text: str) -> tuple[str, ...]:
    from captum_ultra.attr.methods import find_methods

    return find_methods(text)


def _parse_classes(text: str) -> tuple[str, ...]:
    return ("predicted", "target") if text == "both" else (text,)
