"""One call from a model and an input to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from captum_ultra.adapters import Blocks
from captum_ultra.adapters.text import model_name
from captum_ultra.insights.explorer.explorer import Explorer
from captum_ultra.insights.explorer.images import ImageMaps, image_maps
from captum_ultra.insights.explorer.methods import DEFAULT_METHODS, Methods, named_methods
from captum_ultra.insights.explorer.pictures import as_shown
from captum_ultra.insights.explorer.texts import TextMaps, text_maps
from captum_ultra.models.loader import LoadedModel

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["explore"]

Model = nn.Module | LoadedModel
Inputs = Any  # Tensor | Image | str | tuple[str, str]


def explore(
    model: Model | Mapping[str, Model], inputs: Inputs | Mapping[str, Inputs],
    layers: Sequence[int] | None = None, *, methods: Methods = DEFAULT_METHODS, compare: Sequence[Any] | None = None,
    picture: Any = None, segmentation: bool = True, tokenizer: Any = None, separator: str = "\nTL;DR:",
    targets: str = "all", blocks: Blocks | None = None, title: str | None = None, show_progress: bool = False,
) -> Explorer:  # fmt: skip
    """Explain all tokens of an input, and put the explanations on a page to be pointed at.

    Args:
        model: a module, or what :func:`captum_ultra.models.loader.load_model` gives; a dict from name to model
            shows several side by side.
        inputs: one image [1, C, H, W] or [C, H, W], normalised as the model expects, or a PIL image (with a loaded
            model); a text, or (context, summary). A dict has an input for each model.
        layers: numbers of blocks passed, negative from the end; all when None.
        methods: what can be chosen on the page: names of methods ("residual", "rollout", ...), the scores "sum" and
            "energy" of ULTra, pairs of a method's name and a score; or a dict from label to one of these, to a method
            of this package (object or class), to any object (or class) with
            ``attribute(x, token="patches", layer=l, output="patches")`` for images, or to a dict from layer to maps
            [P, P] (texts: [T, N]).
        compare: methods that stand side by side at the beginning: labels, or names as in a list of methods.
        picture: what is shown under the maps, [H, W, 3] in 0..1; what the model saw when None.
        segmentation: let the reader cut the linkage tree of the maps; needs scipy.
        tokenizer: of a text's model; that of the loaded model when None.
        separator: stands between context and summary.
        targets: of a text, explain "all" tokens, or only those of the "last" part, the summary.
        blocks: the name of the container of the residual blocks; found automatically when None.
        title: of the page.
        show_progress: show a progress bar over the tokens of every layer.

    Returns:
        An :class:`Explorer`: shown inline in a notebook, and saved by its ``save``.

    Raises:
        TypeError, ValueError: for arguments; before the long computation.
        UnsupportedModelError: for models that cannot be explained faithfully.
        MissingExtraError: if scipy is missing and segmentation is wanted.

    Example:
        >>> from captum_ultra.models.loader import load_model
        >>> page = explore(load_model("facts-llama"), ("Mara lives in Rome.", " Mara is in Italy."), layers=[2, 4])
        >>> page.models[0].maps["ULTra, sum score", 4].shape
        (12, 12)
    """
    named = named_methods(methods)
    if targets not in ("all", "last"):
        raise ValueError(f"targets={targets!r} is unknown; possible: 'all', 'last'")
    if compare is not None and (isinstance(compare, str) or len(compare) < 2):
        raise ValueError(f"compare={compare!r}: at least two methods are compared")
    labels = None if compare is None else [_label(each, named) for each in compare]
    models = dict(model) if isinstance(model, Mapping) else {"": model}
    if not models:
        raise ValueError("model: an empty dict was given; at least one model is needed")
    given: dict[str, Any] = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(models, inputs)
    if given.keys() != models.keys():
        raise ValueError(f"inputs: for the models {sorted(models)} there are inputs of {sorted(given)}")
    found: list[ImageMaps | TextMaps] = []
    for key, each in models.items():
        module, loaded = (each.model, each) if isinstance(each, LoadedModel) else (each, None)
        if not isinstance(module, nn.Module):
            raise TypeError(f"model must be a torch module or a loaded model, got {type(module).__name__}")
        name = key or (loaded.name if loaded else model_name(module))
        if _is_text(given[key]):
            reader = loaded.tokenizer if tokenizer is None and loaded else tokenizer
            parts = _parts(given[key], separator)
            found.append(text_maps(module, reader, parts, layers, named, name=name, targets=targets, blocks=blocks,
                                   show_progress=show_progress))  # fmt: skip
        else:
            tensor = _image(given[key], loaded)
            shown = loaded.picture(tensor)[0] if picture is None and loaded else picture
            found.append(image_maps(module, tensor, layers, named, name=name, picture=as_shown(shown, tensor),
                                    segmentation=segmentation, blocks=blocks,
                                    show_progress=show_progress))  # fmt: skip
    return Explorer.of(found, title or f"Tokens of {', '.join(dict.fromkeys(each.name for each in found))}", labels)


def _label(method: Any, named: Mapping[str, Any]) -> str:
    """The label of a method, which may be given as a list of methods names it."""
    label = method
    if method not in named:
        with suppress(ValueError):
            (label,) = named_methods([method])
    if label not in named:
        raise ValueError(f"compare: there is no method {method!r}; there are {', '.join(named)}")
    return str(label)


def _is_text(inputs: Inputs) -> bool:
    if isinstance(inputs, str):
        return True
    if isinstance(inputs, tuple):
        if len(inputs) == 2 and all(isinstance(each, str) for each in inputs):
            return True
        raise TypeError("inputs: a tuple is (context, summary), two strings")
    return False


def _parts(inputs: str | tuple[str, str], separator: str) -> list[tuple[str, str]]:
    if isinstance(inputs, str):
        return [("text", inputs)]
    parts = [("context", inputs[0]), ("separator", separator), ("summary", inputs[1])]
    return [part for part in parts if part[1] or part[0] != "separator"]


def _image(inputs: Tensor | Image, loaded: LoadedModel | None) -> Tensor:
    """The image as the model takes it, [1, C, H, W]."""
    if isinstance(inputs, Tensor):
        return inputs[None] if inputs.dim() == 3 else inputs
    if not hasattr(inputs, "convert"):
        raise TypeError(
            f"inputs must be an image tensor, a PIL image, a text or (context, summary), got {type(inputs).__name__}"
        )
    if loaded is None or loaded.preprocess is None:
        raise ValueError("inputs: a PIL image needs a model of load_model that reads images; else give a tensor")
    return loaded.preprocess(inputs)
