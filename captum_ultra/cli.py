"""The command line: ``captum-ultra demo``, ``explain``, ``segment``, ``evaluate`` and ``models``.

What a command needs is imported inside it: help and messages about bad input come at once.
"""

from __future__ import annotations

import sys
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from captum_ultra.insights.demo import SceneExplanation

_INCOMPLETE = 1
_BAD_INPUT = 2
# What click raises for a wrong option; typer carries click inside itself or beside, by version.
_UsageError: Any = typer.BadParameter.__mro__[1]


class Score(str, Enum):
    """The scores that have a name (in Python, vectors and callables are possible as well)."""

    sum = "sum"
    energy = "energy"


class OneLineErrors(TyperGroup):
    """Tell a user's mistake in one line on stderr, with exit code 2, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if not _is_bad_input(error):
                raise
            message = error.format_message() if isinstance(error, _UsageError) else str(error)
        typer.echo(f"captum-ultra: {' '.join(message.split())}", err=True)
        raise typer.Exit(_BAD_INPUT)


def _is_bad_input(error: Exception) -> bool:
    from captum_ultra.errors import MissingExtraError
    from captum_ultra.models.loader import ModelNotAvailableError

    mistakes = _UsageError | ValueError | TypeError | OSError | ModelNotAvailableError | MissingExtraError
    return isinstance(error, mistakes)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Explain the latent tokens of transformers: which input made a token what it is.",
)


def main() -> None:
    """Entry point of the console script."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"captum-ultra {version('captum_ultra')}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for demo.png.")] = Path("out"),
    scene: Annotated[int, typer.Option(help="Number of the held-out scene.", min=0)] = 0,
    tokens: Annotated[int, typer.Option(help="Object tokens to explain, at most.", min=1)] = 4,
    score: Annotated[Score, typer.Option(help="Scalar of the latent that is explained.")] = Score.sum,
) -> None:
    """Explain tokens of a scene over all layers of the shipped model. Needs no network."""
    from captum_ultra.data.scenes import render_scene
    from captum_ultra.insights.demo import explain_scene
    from captum_ultra.insights.figures import save_figure
    from captum_ultra.models.vit import scenes_vit

    model = scenes_vit()
    started = time.perf_counter()
    found = explain_scene(
        model, render_scene(seed=0, index=scene, size=model.image_size), score=score.value, tokens=tokens
    )
    seconds = time.perf_counter() - started
    path = save_figure(found.figure(), output / "demo.png", dpi=250)

    typer.echo(f"held-out scene {scene}, score {score.value}: ROC-AUC of each map against its token's object")
    _print_table(found)
    typer.echo(f"{found.auc.numel()} maps in {seconds:.2f} s. The picture: {path}")


def _print_table(found: SceneExplanation) -> None:
    typer.echo(f"{'':24}" + "".join(f"{f'layer {layer}':>9}" for layer in found.layers))
    rows = [
        (f"{name}, token {token}", auc) for name, token, auc in zip(found.names, found.tokens, found.auc, strict=True)
    ]
    for name, auc in [*rows, ("mean", found.auc.mean(dim=0))]:
        typer.echo(f"{name:24}" + "".join(f"{value:9.3f}" for value in auc.tolist()))


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    token: Annotated[
        str, typer.Option(help="The token: ROW,COL of a patch, or an index (0 is CLS where there is one).")
    ],
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
    score: Annotated[Score, typer.Option(help="Scalar of the latent that is explained.")] = Score.sum,
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
    from captum_ultra.insights.explain import explain_image, read_image
    from captum_ultra.insights.figures import check_suffix, save_figure
    from captum_ultra.models.loader import load_model

    # Whatever can be wrong without the model is found before the model is loaded.
    wanted = _parse_token(token)
    numbers = output.suffix.lower() == ".npz"
    if not numbers:
        check_suffix(output)
    picture = read_image(image)

    loaded = load_model(model, pretrained=not random_weights)
    found = explain_image(loaded, picture, wanted, layer, score=score.value, blocks=blocks, interpolation=interpolation)
    if numbers:
        found.save_npz(output)
    else:
        save_figure(found.figure(), output)
    typer.echo(f"token {wanted} of {image.name}, {model}, layer {layer}, score {score.value}: {output}")


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


@app.command()
def segment(
    images: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.", show_default=False)],
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "scenes-vit",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
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
    from captum_ultra.insights.segment_folder import find_pictures, segment_folder
    from captum_ultra.models.loader import load_model
    from captum_ultra.segmentation import LatentTokenSegmenter, SegmentationRule
    from captum_ultra.segmentation.cutting import Cut

    # Whatever can be wrong without the model is found before the model is loaded.
    cut, rule = Cut.parse(k, threshold), SegmentationRule(smooth=smooth)
    pictures = find_pictures(images, leave_out=output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {str(output)!r} is a file; give a folder.")

    loaded = load_model(model, pretrained=not random_weights)
    segmenter = LatentTokenSegmenter(
        loaded.model, layer, score.value, k, cut.threshold or 0.0, rule=rule, landmarks=landmarks, blocks=blocks
    )
    summary = f"{model}, layer {layer}, score {score.value}, {cut}"
    outcome = segment_folder(loaded, segmenter, pictures, output, summary, report=_report, show_progress=None)
    typer.echo(f"{summary}: {len(outcome.entries)} of {len(pictures)} pictures segmented. See {outcome.page}")
    if outcome.failed:
        raise typer.Exit(_INCOMPLETE)


def _report(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"captum-ultra: {' '.join(message.split())}", file=sys.stderr)


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


@app.command()
def models() -> None:
    """List what can be loaded, and how."""
    from captum_ultra.models.loader import available_models

    for name, sentence in available_models():
        typer.echo(f"{name:28}{sentence}")
