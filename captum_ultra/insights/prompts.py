"""Which parts of a picture speak for a text: maps of prompts with a model of images and texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_ultra.adapters.text_head import text_head
from captum_ultra.attr.methods import ALIASES, METHODS, find_method, method_class
from captum_ultra.attr.methods.titles import TITLES
from captum_ultra.insights.explain import save_arrays
from captum_ultra.insights.figures import explain_figure
from captum_ultra.models.loader import LoadedModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["PromptMaps", "check_prompt_method", "explain_prompts", "prompt_head"]


@dataclass(frozen=True)
class PromptMaps:
    """One map a prompt, and everything that says what they are.

    Attributes:
        picture: what the model saw, [H, W, 3] in 0..1.
        maps: relevance of the input for the cosine of the picture's embedding with each prompt's, [K, H, W].
        prompts: the K texts.
        method: by which the maps were made.
        model: the model's name.
    """

    picture: NDArray[np.float32]
    maps: NDArray[np.float32]
    prompts: tuple[str, ...]
    method: str
    model: str

    def figure(self) -> Figure:
        """The picture and the map of each prompt, on one colour scale."""
        titles = ["\n".join(textwrap.wrap(prompt, 30)) for prompt in self.prompts]
        title = TITLES[ALIASES.get(self.method, self.method)]
        return explain_figure(self.picture, self.maps, titles=titles, title=title, caption=self.model)

    def save_npz(self, path: Path) -> None:
        """Write maps, picture, prompts, method and model; `numpy.load` reads them."""
        save_arrays(self, path)


def explain_prompts(
    loaded: LoadedModel, image: Image, prompts: Sequence[str], *, method: str = "gae", blocks: str | None = None,
    interpolation: str = "bilinear",
) -> PromptMaps:  # fmt: skip
    """Explain what in a picture speaks for each of some texts.

    Args:
        loaded: a model of images and texts (CLIP, SigLIP).
        image: of any size; the model's own preprocessing scales and crops it.
        prompts: the texts; see :func:`captum_ultra.text_head`.
        method: a name that :func:`captum_ultra.attr.methods.find_method` knows, of a method that tells classes apart.
        blocks: name of the blocks of the model's tower of images, when they are not found automatically.
        interpolation: how the maps are enlarged.

    Raises:
        ValueError: the model does not read both, a prompt is too long, or the method gives every prompt one map.
        UnsupportedModelError: the model cannot be explained faithfully.

    Example:
        >>> from captum_ultra.models.loader import load_model
        >>> explain_prompts(load_model("scenes-vit"), None, ["a red disk"])
        Traceback (most recent call last):
        ...
        ValueError: 'scenes-vit' reads image; prompts need a model of images and texts, such as open_clip:...
    """
    check_prompt_method(method)
    head = prompt_head(loaded, prompts)
    assert loaded.preprocess is not None
    inputs = loaded.preprocess(image)
    explain = find_method(method)(loaded.model, blocks, head=head)
    maps = explain.attribute(inputs, target=[list(range(len(prompts)))], interpolation=interpolation)
    return PromptMaps(loaded.picture(inputs)[0].numpy(), maps[0].numpy(), tuple(prompts), method, loaded.name)


def prompt_head(loaded: LoadedModel, prompts: Sequence[str]) -> Tensor:
    """The prompts' embeddings [K, d], for ``head=``.

    Raises:
        ValueError: the model does not read images and texts, or a prompt is too long.
    """
    if loaded.preprocess is None or loaded.tokenizer is None:
        raise ValueError(
            f"{loaded.name!r} reads {loaded.kind}; prompts need a model of images and texts, such as "
            "open_clip:ViT-B-32/laion2b_s34b_b79k"
        )
    return text_head(loaded.model, loaded.tokenizer, prompts)


def check_prompt_method(method: str) -> None:
    """Raise for a method that is unknown, or whose map is the same for every prompt.

    Example:
        >>> check_prompt_method("rollout")
        Traceback (most recent call last):
        ...
        ValueError: method 'rollout' gives every prompt the same map; take one of gae, ...
    """
    if not find_method(method).needs_class:
        others = ", ".join(name for name in METHODS if method_class(name).needs_class)
        raise ValueError(f"method {method!r} gives every prompt the same map; take one of {others}")
