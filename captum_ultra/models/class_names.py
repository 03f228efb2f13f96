"""What the classes of a loaded model are called, and which class a user means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from captum_ultra.models.loader import LoadedModel

__all__ = ["class_names", "class_number"]


def class_names(loaded: LoadedModel) -> tuple[str, ...]:
    """Names of the classes 0..K-1 of a model, as its library knows them; empty where it knows none.

    Models of this package and of transformers carry their names. timm's and torchvision's do not; with as many
    classes as an ImageNet has, they are taken to be those of that ImageNet.

    Args:
        loaded: from :func:`captum_ultra.models.loader.load_model`.

    Example:
        >>> from captum_ultra.models.loader import LoadedModel
        >>> class_names(LoadedModel(nn.Identity(), "a model", classes=("disk", "ring")))
        ('disk', 'ring')
    """
    if loaded.classes:
        return loaded.classes
    library, _, rest = loaded.name.partition(":")
    if library == "timm":
        return _of_timm(loaded.model)
    if library == "torchvision":
        return _of_torchvision(rest, loaded.model)
    labels = getattr(getattr(loaded.model, "config", None), "id2label", None)
    return tuple(str(labels[number]) for number in sorted(labels)) if labels else ()


def class_number(target: int | str, names: Sequence[str] = ()) -> int:
    """The number of a class out of a number, or a name in any case; of "tabby, tabby cat" each part is a name.

    Args:
        target: what a user wrote.
        names: of the classes 0..K-1.

    Raises:
        ValueError: for a name that no class has, or several; lists what comes close.

    Example:
        >>> class_number("3"), class_number("Ring", ["disk", "ring, annulus"])
        (3, 1)
    """
    text = str(target).strip()
    if text.lstrip("-").isdigit():
        return int(text)
    wanted = text.casefold()
    if not names:
        raise ValueError(f"target {text!r}: the model does not know what its classes are called; give a number")
    parts = [[name.casefold(), *(part.strip() for part in name.casefold().split(","))] for name in names]
    found = [number for number, each in enumerate(parts) if wanted in each]
    if len(found) > 1:
        raise ValueError(f"target {text!r} names the classes {', '.join(map(str, found))}; give one of these numbers")
    if not found:
        close = difflib.get_close_matches(wanted, sorted({part for each in parts for part in each}), n=5, cutoff=0.6)
        known = f"close are {', '.join(close)}" if close else f"there are {len(names)}: {_some(names)}"
        raise ValueError(f"target {text!r} names no class of the model; {known}")
    return found[0]


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _of_timm(model: nn.Module) -> tuple[str, ...]:
    data: Any = import_module("timm.data")
    subset = data.infer_imagenet_subset(model) if getattr(model, "num_classes", 0) else None
    return tuple(data.ImageNetInfo(subset).label_descriptions()) if subset else ()


def _of_torchvision(name: str, model: nn.Module) -> tuple[str, ...]:
    torchvision: Any = import_module("torchvision.models")
    categories = tuple(torchvision.get_model_weights(name).DEFAULT.meta.get("categories", ()))
    last = [module.out_features for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    return categories if last == [len(categories)] else ()
