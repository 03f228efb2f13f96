"""``captum-ultra demo``: the shipped models on scenes and documents whose truth is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_ultra.cli.application import Score, app

if TYPE_CHECKING:
    from captum_ultra.insights.scene_demo import SceneExplanation


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
