"""``captum-ultra demo``: the shipped models on scenes and documents whose truth is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from captum_ultra.cli.application import Score, app

_METHODS = ("ultra", "rollout", "residual")
_TOP = 10  # tokens of the text that are listed
_SCENE_LAYER = 5
_TEXT_LAYER = 2  # where ULTra and rollout explain this model best, on average over documents


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures and the page.")] = Path("out"),
    scene: Annotated[int, typer.Option(help="Number of the held-out scene.", min=0)] = 0,
    tokens: Annotated[int, typer.Option(help="Object tokens to explain, at most.", min=1)] = 4,
    document: Annotated[int, typer.Option(help="Number of the held-out document.", min=0)] = 0,
    score: Annotated[Score, typer.Option(help="Scalar of the latents that is explained.")] = Score.energy,
) -> None:
    """Explain tokens of a scene and the summary of a text by three methods. Needs no network."""
    _demo_of_a_scene(output, scene, tokens, score.value)
    _demo_of_a_text(output, document, score.value)


def _demo_of_a_scene(output: Path, number: int, tokens: int, score: str) -> None:
    from captum_ultra.data.scenes import render_scene
    from captum_ultra.insights.figures import save_figure
    from captum_ultra.insights.scene_demo import explain_scene, methods_figure
    from captum_ultra.models.vit import scenes_vit

    model = scenes_vit()
    shown = render_scene(seed=0, index=number, size=model.image_size)
    started = time.perf_counter()
    found = [
        explain_scene(model, shown, method=method, score=score, tokens=tokens, layers=[_SCENE_LAYER])
        for method in _METHODS
    ]
    seconds = time.perf_counter() - started
    path = save_figure(methods_figure(found), output / "demo.png", dpi=250)

    typer.echo(f"held-out scene {number}, layer {_SCENE_LAYER}: ROC-AUC of each map against its token's object")
    typer.echo(" " * 24 + "".join(f"{each.title:>28}" for each in found))
    rows = [f"{name}, token {token}" for name, token in zip(found[0].names, found[0].tokens, strict=True)]
    for row, name in enumerate(rows):
        typer.echo(f"{name:24}" + "".join(f"{float(each.auc[row]):28.3f}" for each in found))
    typer.echo(f"{'mean':24}" + "".join(f"{float(each.auc.mean()):28.3f}" for each in found))
    typer.echo(f"{len(rows) * len(found)} maps in {seconds:.2f} s. The picture: {path}")


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
    document = write_document(seed=0, index=number)
    found = [
        explain_document(model, tokenizer, document, method=method, layer=_TEXT_LAYER, score=score)
        for method in _METHODS
    ]
    page = found[-1].contribution.save_html(output / "text.html")
    picture = found[-1].contribution.save_png(output / "text.png")

    typer.echo(f"\nheld-out document {number}, layer {_TEXT_LAYER}: what the summary rests on, * marks the evidence\n")
    typer.echo(f"  {document.context}\n  TL;DR: {document.summary}\n")
    typer.echo("".join(f"{each.title:28}" for each in found).rstrip())
    orders = [each.contribution.scores.argsort(descending=True).tolist() for each in found]
    for ranked in list(zip(*orders, strict=True))[:_TOP]:
        marked = [
            f"{each.contribution.context_tokens[token]:12}{'*' if each.evidence[token] else ''}"
            for each, token in zip(found, ranked, strict=True)
        ]
        typer.echo("".join(f"{each:28}" for each in marked).rstrip())
    typer.echo(f"average precision of the evidence ({found[0].chance:.2f} by chance):")
    typer.echo("".join(f"{each.average_precision:<28.2f}" for each in found).rstrip())
    typer.echo(f"The page of {found[-1].title}: {page}, the picture: {picture}")
