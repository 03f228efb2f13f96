"""Several explanations of a class side by side: their maps, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.adapters import Blocks, ModelViews
from captum_ultra.adapters.class_scores import Head, class_scores
from captum_ultra.attr.attribution import attribute_all
from captum_ultra.attr.inputs import checked_inputs
from captum_ultra.attr.methods import find_methods, method_class
from captum_ultra.attr.presentation import min_max
from captum_ultra.attr.questions import choose_classes
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.insights.prompts import prompt_head
from captum_ultra.io import written_whole
from captum_ultra.models.class_names import class_names, class_number
from captum_ultra.models.loader import LoadedModel
from captum_ultra.relevance import explaining

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["Comparison", "compare", "compare_pictures"]

NO_CLASS = -1


@dataclass(frozen=True)
class Comparison:
    """Maps of M methods for B images, and what says what they are.

    Attributes:
        pictures: what the model saw, [B, H, W, 3] in 0..1.
        maps: [B, M, H, W] as the methods give them, NaN where a method refused the model.
        milliseconds: [B, M], how long each map took, with the runs of the model that no method before it needed; NaN
            where there is none.
        methods: M short names, as in :data:`captum_ultra.attr.methods.METHODS`.
        targets: [B], the explained classes; -1 throughout for a model without classes.
        predicted: [B], the predicted classes, likewise.
        probabilities: [B, 2], of the explained and of the predicted class; NaN for a model without classes.
        refused: why a method refused the model, by its short name.
        classes: the names of the classes; empty where they are not known.
        names: of the images; empty where they have none.
        model: the model's name.
    """

    pictures: NDArray[np.float32]
    maps: NDArray[np.float32]
    milliseconds: NDArray[np.float64]
    methods: tuple[str, ...]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    refused: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    model: str = ""

    def class_name(self, number: int) -> str:
        """What a class is called; without the synonyms of ImageNet's names, where that leaves it its own.

        Its number where it has no name.

        Example:
            >>> empty = np.zeros((0, 0))
            >>> names = ("tabby, tabby cat", "crane, a bird", "crane, a machine")
            >>> found = Comparison(empty, empty, empty, (), empty, empty, empty, classes=names)
            >>> found.class_name(0), found.class_name(1), found.class_name(7)
            ('tabby', 'crane, a bird', 'class 7')
        """
        if not 0 <= number < len(self.classes):
            return f"class {number}"
        first = self.classes[number].split(",")[0]
        return first if sum(name.split(",")[0] == first for name in self.classes) == 1 else self.classes[number]

    def figure(self) -> Figure:
        """The sheet: every image and its maps, with runtimes; ``save_figure`` writes it."""
        from captum_ultra.insights.comparison_figure import comparison_figure

        return comparison_figure(self)

    def save(self, path: str | Path) -> None:
        """Write everything as ``.npz``; :meth:`load` and ``numpy.load`` read it."""
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items() if name != "refused"}
        arrays["refused"] = np.array([self.refused.get(method, "") for method in self.methods])
        with written_whole(Path(path)) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Read what :meth:`save` wrote.

        Raises:
            OSError, ValueError: for a file that is not there, or was not written by it.
        """
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in cls.__dataclass_fields__ if name not in file]
            if missing:
                raise ValueError(f"{str(path)!r} holds no comparison: {missing[0]!r} is missing")
            values: dict[str, Any] = {name: file[name] for name in cls.__dataclass_fields__}
        for name in ("methods", "classes", "names"):
            values[name] = tuple(values[name].tolist())
        reasons = zip(values["methods"], values["refused"].tolist(), strict=True)
        values["refused"] = {method: reason for method, reason in reasons if reason}
        return cls(**{**values, "model": str(values["model"])})


def compare(
    model: nn.Module | LoadedModel, x: Tensor, target: Any = None, methods: str | Sequence[str] = "all", *,
    blocks: Blocks | None = None, head: Head | None = None, names: Sequence[str] = (),
    show_progress: bool | None = False,
) -> Comparison:  # fmt: skip
    """Explain a class by several methods, from one run of the model for each kind of run that they share.

    A method's time includes a run that it was the first to need: those behind it have less to do. All methods explain
    the first image once before times are taken: what happens only once is not counted.

    Args:
        model: a classifier, or one that :func:`captum_ultra.models.loader.load_model` loaded, whose normalisation and
            class names are then known.
        x: images [B, 3, H, W], normalised as the model expects, on its device.
        target: the class for all images, a number or a name; a list or tensor of numbers, one an image; or None for
            the predicted one.
        methods: "all", short names as in :data:`captum_ultra.attr.methods.METHODS`, in a sequence or with commas.
        blocks: as in :class:`captum_ultra.attr.attribution.TokenAttribution`.
        head: as there; gives classes to a model without a classification head.
        names: of the images, for the figure.
        show_progress: whether a bar shows the remaining time; None shows it on a terminal only.

    Returns:
        A :class:`Comparison`. A method that refuses the model has no maps there, but a reason.

    Raises:
        ValueError, TypeError: for arguments.
        UnsupportedModelError: if no method explains the model; or if it has no classes, and a target was given.

    Example:
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> found = compare(ViTClassifier(), torch.rand(2, 3, 64, 64), target="1", methods="gae,rollout")
        >>> found.maps.shape, found.milliseconds.shape, found.targets.tolist()
        ((2, 2, 64, 64), (2, 2), [1, 1])
    """
    loaded = model if isinstance(model, LoadedModel) else LoadedModel(model, type(model).__name__)
    chosen = find_methods(methods if isinstance(methods, str) else ",".join(methods))
    images = checked_inputs(x, loaded.model)
    if images.dim() != 4:
        raise ValueError(
            f"compare draws maps of images [B, C, H, W], got inputs of shape {list(images.shape)}; for texts take the "
            'methods themselves, with output="tokens"'
        )
    if names and len(names) != len(images):
        raise ValueError(f"{len(names)} names were given for {len(images)} images")
    classes = class_names(loaded)
    wanted = class_number(target, classes) if isinstance(target, str) else target
    logits = _logits(loaded.model, images, blocks, head, needed=target is not None)
    targets = None if logits is None else _one_each(choose_classes(wanted, logits))

    maps = np.full((len(images), len(chosen), *images.shape[2:]), np.nan, dtype=np.float32)
    milliseconds = np.full((len(images), len(chosen)), np.nan)
    refused: dict[str, str] = {}
    explain = {name: method_class(name)(loaded.model, blocks, head=head) for name in chosen}
    rounds = (0, *range(len(images)))  # the first image twice
    for row in tqdm(rounds, "images", disable=None if show_progress is None else not show_progress):
        one = slice(row, row + 1)
        start = time.perf_counter()
        found = attribute_all(explain, images[one], None if targets is None else targets[one])
        for column, (name, each) in enumerate(found):
            if isinstance(each, Exception):  # the arguments are right: the method cannot do this model
                refused[name] = " ".join(str(each).split())
            else:
                maps[row, column] = each[0, 0].float().cpu().numpy()  # on the CPU: an accelerator has finished
                milliseconds[row, column] = 1e3 * (time.perf_counter() - start)
            start = time.perf_counter()
    columns = [chosen.index(name) for name in refused]
    maps[:, columns] = milliseconds[:, columns] = np.nan
    if len(refused) == len(chosen):
        first, reason = next(iter(refused.items()))
        raise UnsupportedModelError(f"{loaded.name} is explained by none of {', '.join(chosen)}; {first}: {reason}")
    return Comparison(
        _pictures(model, images), maps, milliseconds, chosen, *_predictions(logits, targets, len(images)), refused,
        classes, tuple(names), loaded.name,
    )  # fmt: skip


def _logits(model: nn.Module, images: Tensor, blocks: Blocks | None, head: Head | None, needed: bool) -> Tensor | None:
    """[B, K], image by image, as the maps are made; None for a model without classes, where they are not needed."""
    views, found = ModelViews(model, blocks), []
    try:
        with explaining(model, gradients=False):
            for image in images.split(1):
                view = views(image)
                found.append(class_scores(model, view.call(view.model, image, None), head))
    except UnsupportedModelError:
        if needed or head is not None:
            raise
        return None
    return torch.cat(found)


def _one_each(classes: Tensor) -> Tensor:
    if classes.shape[1] != 1:
        raise ValueError(f"target: {classes.shape[1]} classes an image were given; one an image is compared")
    return classes[:, 0]


def _pictures(model: nn.Module | LoadedModel, images: Tensor) -> NDArray[np.float32]:
    """What the model saw [B, H, W, 3]; where its normalisation is not known, every image scaled to 0..1."""
    if isinstance(model, LoadedModel):
        return model.picture(images).float().cpu().numpy()
    seen = min_max(images.detach().float()).permute(0, 2, 3, 1).cpu().numpy()
    return seen if seen.shape[-1] == 3 else np.repeat(seen.mean(-1, keepdims=True), 3, axis=-1)


def _predictions(
    logits: Tensor | None, targets: Tensor | None, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Explained classes [B], predicted classes [B], and the probabilities of both [B, 2]."""
    if logits is None or targets is None:
        nothing = np.full(batch, NO_CLASS)
        return nothing, nothing, np.full((batch, 2), np.nan)
    predicted = logits.argmax(-1)
    both = torch.stack([targets, predicted], dim=1)
    probabilities = logits.double().softmax(-1).gather(1, both)
    return targets.cpu().numpy(), predicted.cpu().numpy(), probabilities.cpu().numpy()


def compare_pictures(
    loaded: LoadedModel, pictures: Sequence[tuple[str, Image]], target: str | int | None = None,
    methods: str | Sequence[str] = "all", *, prompts: Sequence[str] = (), blocks: str | None = None,
    show_progress: bool | None = False,
) -> Comparison:  # fmt: skip
    """:func:`compare` on pictures of any size, which the model's own preprocessing scales and crops.

    Args:
        loaded: a classifier of images.
        pictures: names and pictures.
        target: as in :func:`compare`.
        methods: as in :func:`compare`.
        prompts: the classes, of a model of images and texts; see :func:`captum_ultra.text_head`.
        blocks: name of the model's list of blocks, when it is not found automatically.
        show_progress: as in :func:`compare`.

    Returns:
        The :class:`Comparison`, with the pictures' names.

    Raises:
        ValueError: the model reads no images, or scales the pictures to different sizes.
        UnsupportedModelError: as in :func:`compare`.
    """
    if loaded.preprocess is None:
        raise ValueError(f"{loaded.name!r} reads {loaded.kind}, not images; from Python, the methods take ids.")
    inputs = [loaded.preprocess(picture) for _, picture in pictures]
    sizes = sorted({tuple(each.shape[2:]) for each in inputs})
    if len(sizes) > 1:
        raise ValueError(f"{loaded.name!r} sees these pictures at {len(sizes)} sizes, {sizes}: compare them one by one")
    names = [name for name, _ in pictures]
    head = prompt_head(loaded, prompts) if prompts else None
    if prompts:
        loaded = replace(loaded, classes=tuple(prompts))
    return compare(
        loaded, torch.cat(inputs), target, methods, blocks=blocks, head=head, names=names, show_progress=show_progress
    )
