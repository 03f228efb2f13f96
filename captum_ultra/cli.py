"""The command line: ``captum-ultra demo``, ``explain``, ``contribute`` and ``models``.

What a command needs is imported inside it: help and messages about bad input come at once.
"""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from captum_ultra.insights.scene_demo import SceneExplanation

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
    from captum_ultra.models.loader import ModelNotAvailableError

    return isinstance(error, _UsageError | ValueError | TypeError | OSError | ModelNotAvailableError)


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
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures and the page.")] = Path("out"),
    scene: Annotated[int, typer.Option(help="Number of the held-out scene.", min=0)] = 0,
    tokens: Annotated[int, typer.Option(help="Object tokens to explain, at most.", min=1)] = 4,
    document: Annotated[int, typer.Option(help="Number of the held-out document.", min=0)] = 0,
    score: Annotated[Score, typer.Option(help="Scalar of the scene's latents that is explained.")] = Score.sum,
    text_score: Annotated[Score, typer.Option(help="The same for the document's.")] = Score.energy,
) -> None:
    """Explain tokens of a scene and the summary of a text, with the shipped models. Needs no network."""
    _demo_of_a_scene(output, scene, tokens, score.value)
    _demo_of_a_text(output, document, text_score.value)


def _demo_of_a_scene(output: Path, number: int, tokens: int, score: str) -> None:
    from captum_ultra.data.scenes import render_scene
    from captum_ultra.insights.figures import save_figure
    from captum_ultra.insights.scene_demo import explain_scene
    from captum_ultra.models.vit import scenes_vit

    model = scenes_vit()
    started = time.perf_counter()
    found = explain_scene(model, render_scene(seed=0, index=number, size=model.image_size), score=score, tokens=tokens)
    seconds = time.perf_counter() - started
    path = save_figure(found.figure(), output / "demo.png", dpi=250)

    typer.echo(f"held-out scene {number}, score {score}: ROC-AUC of each map against its token's object")
    _print_table(found)
    typer.echo(f"{found.auc.numel()} maps in {seconds:.2f} s. The picture: {path}")


def _demo_of_a_text(output: Path, number: int, score: str) -> None:
    from captum_ultra.data.facts import write_document
    from captum_ultra.insights.text_demo import explain_document
    from captum_ultra.models.library import ModelNotAvailableError
    from captum_ultra.models.llama import facts_llama, facts_tokenizer

    try:
        model, tokenizer = facts_llama(), facts_tokenizer()
    except ModelNotAvailableError as missing:
        typer.echo(f"\nThe demonstration for text was left out: {missing}")
        return
    # Where this model is best explained, on average over documents (docs/facts.md).
    found = explain_document(model, tokenizer, write_document(seed=0, index=number), layer=2, score=score)
    contribution = found.contribution
    page = contribution.save_html(output / "text.html")
    picture = contribution.save_png(output / "text.png")

    typer.echo(f"\nheld-out document {number}, layer 2, score {score}: what the summary rests on, by relevance\n")
    typer.echo(f"  {found.document.context}\n  TL;DR: {found.document.summary}\n")
    names, planted = contribution.context_tokens, found.evidence.tolist()
    for index in contribution.scores.argsort(descending=True)[:10].tolist():
        mark = "evidence" if planted[index] else ""
        typer.echo(f"{contribution.scores[index]:10.4f}  {names[index]:12}{mark}".rstrip())
    typer.echo(
        f"average precision of the evidence {found.average_precision:.2f}, by chance {found.chance:.2f}. "
        f"The page: {page}, the picture: {picture}"
    )


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
def contribute(
    context: Annotated[Path, typer.Option(help="A text file, in UTF-8.", show_default=False)],
    summary: Annotated[str, typer.Option(help="The text that rests on it; begin it with a blank.", show_default=False)],
    model: Annotated[str, typer.Option(help="A model's name; `captum-ultra models` shows which.")] = "facts-llama",
    layer: Annotated[int, typer.Option(help="Blocks passed; negative from the end.")] = -1,
    score: Annotated[Score, typer.Option(help="Scalar of the latent that is explained.")] = Score.sum,
    separator: Annotated[str, typer.Option(help="Between context and summary; \\n is a line break.")] = "\\nTL;DR:",
    words: Annotated[bool, typer.Option("--words/--tokens", help="What the list on the screen shows.")] = True,
    top: Annotated[int, typer.Option(help="How many words or tokens it shows.", min=1)] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A page (.html), a figure (.png, .pdf, ...), .json or .safetensors.")
    ] = Path("out.html"),
) -> None:
    """Say which tokens of a text a summary rests on, and write the text, coloured, or the numbers."""
    from captum_ultra.attr.documents import check_text
    from captum_ultra.insights.contribute import check_output, contribution_of, read_text, save_contribution
    from captum_ultra.models.loader import load_model

    # Whatever can be wrong without the model is found before the model is loaded.
    check_output(output)
    text = read_text(context)
    check_text(summary, "summary")
    found = contribution_of(
        load_model(model), text, summary, separator=separator.replace("\\n", "\n"), layer=layer, score=score.value
    )
    save_contribution(found, output)
    pieces = sorted(found.words(), key=lambda piece: -piece.score)[:top] if words else found.top(top)
    for piece in pieces:
        typer.echo(f"{piece.score:10.4g}  {piece.text!r}")
    typer.echo(f"{context.name}, {model}, layer {found.layer}, score {found.score}: {output}")


@app.command()
def models() -> None:
    """List what can be loaded, and how."""
    from captum_ultra.models.loader import available_models

    for name, sentence in available_models():
        typer.echo(f"{name:28}{sentence}")
