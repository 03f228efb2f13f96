"""Models by name, as commands load them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from captum_ultra.models.loader import LoadedModel

__all__ = ["Prompts", "RandomWeights", "load"]

RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Build the model untrained; nothing is downloaded.")
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", help='With a CLIP model: a text such as "a cat"; give it again for several.'),
]


def load(name: str, random_weights: bool) -> LoadedModel:
    """The model; where its weights are random its name says so, and with it whatever is shown, printed or saved."""
    from dataclasses import replace

    from captum_ultra.models.class_names import class_names
    from captum_ultra.models.loader import load_model

    loaded = load_model(name, pretrained=not random_weights)
    if not random_weights:
        return loaded
    # Names of classes are looked up by the name of the model.
    return replace(loaded, name=f"{name} (random weights)", classes=class_names(loaded))
