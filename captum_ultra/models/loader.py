"""One name for a model of any supported library: ``load_model("timm:vit_small_patch16_224")``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_ultra.io import rgb
from captum_ultra.models.fetching import fetch
from captum_ultra.models.library import ModelNotAvailableError, import_library
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from captum_ultra.models.transformers_models import load_parts

if TYPE_CHECKING:
    from PIL.Image import Image

    from captum_ultra.models.vit import ViTTrunk

__all__ = ["LoadedModel", "ModelNotAvailableError", "available_models", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with what is needed to feed it.

    Attributes:
        model: the model, on the CPU.
        name: the name that `load_model` was given.
        preprocess: PIL image -> float tensor [1, 3, H, W], as the model was trained; None for a
            model without vision.
        mean: the channel means that `preprocess` subtracts.
        std: the channel deviations that `preprocess` divides by.
        tokenizer: the library's own tokenizer; None for a model without text.
        classes: the names of the logits of a classifier that ships with the package; empty otherwise.
    """

    model: nn.Module
    name: str
    preprocess: Callable[[Image], Tensor] | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    tokenizer: Any = None
    classes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What the model reads: ``"image"``, ``"text"`` or ``"image and text"``."""
        kinds = [kind for kind, reader in (("image", self.preprocess), ("text", self.tokenizer)) if reader]
        return " and ".join(kinds)

    def picture(self, inputs: Tensor) -> Tensor:
        """Undo the normalisation: inputs [B, 3, H, W] -> what the model sees, in 0..1, [B, H, W, 3]."""
        mean = torch.tensor(self.mean, device=inputs.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=inputs.device).view(-1, 1, 1)
        return (inputs.detach() * std + mean).clamp(0, 1).permute(0, 2, 3, 1)


def load_model(name: str, *, pretrained: bool = True) -> LoadedModel:
    """Load a model, with its preprocessing or tokenizer, by name.

    Args:
        name: ``scenes-vit``, ``scenes-classifier`` or ``facts-llama`` (they ship with the package),
            ``timm:NAME``, ``hf:NAME`` (a repository of the Hugging Face hub or a local folder),
            ``open_clip:NAME/PRETRAINED`` or ``torchvision:NAME``.
        pretrained: False builds the architecture with random weights; nothing is downloaded except,
            for ``hf:``, the configuration and what prepares the input.

    Returns:
        The model in evaluation mode, with its preprocessing.

    Raises:
        ValueError: the name is unknown; the message lists close matches.
        ModelNotAvailableError: the library is not installed (the message names the extra of the
            package), the weights are neither cached nor reachable, or a folder lacks a part.

    Example:
        >>> load_model("scenes_vit")
        Traceback (most recent call last):
        ...
        ValueError: unknown model 'scenes_vit'. Close matches: scenes-vit. ...
    """
    if name in _SHIPPED:
        return _SHIPPED[name][0](name, pretrained)
    library, _, rest = name.partition(":")
    if library not in _LIBRARIES or not rest:
        *others, last = (pattern for pattern, _ in available_models())
        raise ValueError(
            _unknown(name, [*_SHIPPED, *(f"{known}:" for known in _LIBRARIES)])
            + f" Known are {', '.join(others)} and {last}."
        )
    ensure_torchvision_imports()
    load = partial(_LIBRARIES[library], name, rest, pretrained)
    if _needs_network(library, rest, pretrained):
        loaded = fetch(name, load, _SHIPPED, hub=library != "torchvision")
    else:
        loaded = load()
    loaded.model.eval()
    return loaded


def available_models() -> list[tuple[str, str]]:
    """What `load_model` takes: pairs of a name (or a pattern of names) and a sentence about it.

    Example:
        >>> available_models()[0][0]
        'scenes-vit'
    """
    return [
        *((name, f"{about}; ships with the package, needs no network") for name, (_, about) in _SHIPPED.items()),
        ("timm:NAME", 'a vision transformer of timm, e.g. timm:vit_small_patch16_224; extra "timm"'),
        ("hf:NAME", 'a model of the Hugging Face hub or a local folder; extra "transformers" or "text"'),
        ("open_clip:NAME/PRETRAINED", 'e.g. open_clip:ViT-B-32/laion2b_s34b_b79k; extra "open_clip"'),
        ("torchvision:NAME", 'a vision transformer of torchvision, e.g. torchvision:vit_b_16; extra "timm"'),
    ]


def _load_scenes_vit(name: str, pretrained: bool) -> LoadedModel:
    from captum_ultra.models.vit import scenes_vit

    return _of_scenes(scenes_vit(pretrained=pretrained), name)


def _load_scenes_classifier(name: str, pretrained: bool) -> LoadedModel:
    from captum_ultra.models.vit_classifier import scenes_classifier

    model = scenes_classifier(pretrained=pretrained)
    return _of_scenes(model, name, model.classes)


def _of_scenes(model: ViTTrunk, name: str, classes: tuple[str, ...] = ()) -> LoadedModel:
    """A model of this package that looks at scenes."""
    mean, std, size = _floats(model.mean), _floats(model.std), model.image_size

    def preprocess(image: Image) -> Tensor:
        return _fit_and_normalize(image, size, mean, std)

    return LoadedModel(model, name, preprocess, mean, std, classes=classes)


def _load_facts_llama(name: str, pretrained: bool) -> LoadedModel:
    from captum_ultra.models.llama import facts_llama, facts_tokenizer

    return LoadedModel(facts_llama(pretrained=pretrained), name, tokenizer=facts_tokenizer())


_SHIPPED: dict[str, tuple[Callable[[str, bool], LoadedModel], str]] = {
    "scenes-vit": (_load_scenes_vit, "small ViT trained on procedural scenes"),
    "scenes-classifier": (_load_scenes_classifier, "small ViT that names the two hues woven into a scene's object"),
    "facts-llama": (_load_facts_llama, 'small Llama trained on documents of facts, extra "text"'),
}


def _load_timm(name: str, rest: str, pretrained: bool) -> LoadedModel:
    timm = import_library("timm", extra="timm")
    timm_data = importlib.import_module("timm.data")

    # Names with a scheme (hf-hub:, local-dir:) are none of timm's own list; timm resolves them.
    if ":" not in rest:
        architecture, _, tag = rest.partition(".")
        if not timm.is_model(architecture):
            raise ValueError(_unknown(name, (f"timm:{known}" for known in timm.list_models())))
        tags = [known for known in timm.list_pretrained() if known.split(".")[0] == architecture]
        if tag and rest not in tags:
            raise ValueError(_unknown(name, (f"timm:{known}" for known in tags)))
        if pretrained and not tags:
            raise ValueError(f"timm has no pretrained weights for {name!r}; pretrained=False builds it.")
    model = timm.create_model(rest, pretrained=pretrained)
    config = timm_data.resolve_model_data_config(model)
    transform = timm_data.create_transform(**config, is_training=False)
    return LoadedModel(model, name, _batched(transform), _floats(config["mean"]), _floats(config["std"]))


def _load_transformers(name: str, rest: str, pretrained: bool) -> LoadedModel:
    model, processor, tokenizer = load_parts(name, rest, pretrained)
    if processor is None:
        return LoadedModel(model, name, tokenizer=tokenizer)

    def preprocess(image: Image) -> Tensor:
        return processor(images=rgb(image), return_tensors="pt")["pixel_values"]

    if hasattr(processor, "data_config"):  # of timm
        mean, std = processor.data_config["mean"], processor.data_config["std"]
    else:
        mean, std = processor.image_mean, processor.image_std
    return LoadedModel(model, name, preprocess, _floats(mean), _floats(std), tokenizer)


def _load_open_clip(name: str, rest: str, pretrained: bool) -> LoadedModel:
    open_clip = import_library("open_clip", extra="open_clip")
    architecture, _, tag = rest.partition("/")
    if architecture not in open_clip.list_models():
        raise ValueError(_unknown(name, (f"open_clip:{known}" for known in open_clip.list_models())))
    if pretrained and not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ValueError(f"{name!r} names no weights: append /PRETRAINED, one of {tags}.")
    if pretrained and tag not in open_clip.list_pretrained_tags_by_model(architecture):
        known_tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise ValueError(_unknown(name, (f"open_clip:{architecture}/{known}" for known in known_tags)))

    weights = tag if pretrained else None
    # open_clip only warns where the weights were trained with another activation than the architecture names, as
    # OpenAI's were: the latents would be wrong without a further sign.
    quick_gelu = bool((open_clip.get_pretrained_cfg(architecture, tag) or {}).get("quick_gelu")) if tag else False
    model, _, transform = open_clip.create_model_and_transforms(
        architecture,
        pretrained=weights,
        load_weights=pretrained,
        pretrained_text=pretrained,
        force_quick_gelu=quick_gelu,
    )
    tokenizer = open_clip.get_tokenizer(architecture)
    visual = model.visual
    return LoadedModel(
        model, name, _batched(transform), _floats(visual.image_mean), _floats(visual.image_std), tokenizer
    )


def _load_torchvision(name: str, rest: str, pretrained: bool) -> LoadedModel:
    models = import_library("torchvision.models", extra="timm")
    if rest not in models.list_models(module=models):
        raise ValueError(_unknown(name, (f"torchvision:{known}" for known in models.list_models(module=models))))
    weights = models.get_model_weights(rest).DEFAULT
    transform = weights.transforms()
    model = models.get_model(rest, weights=weights if pretrained else None)
    return LoadedModel(model, name, _batched(transform), _floats(transform.mean), _floats(transform.std))


_LIBRARIES: dict[str, Callable[[str, str, bool], LoadedModel]] = {
    "timm": _load_timm,
    "hf": _load_transformers,
    "open_clip": _load_open_clip,
    "torchvision": _load_torchvision,
}


def _needs_network(library: str, rest: str, pretrained: bool) -> bool:
    """Whether anything may have to be fetched."""
    if library == "hf":
        return not Path(rest).is_dir()
    return pretrained or ":" in rest or library == "open_clip"


def _unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=5, cutoff=0.6)
    return f"unknown model {name!r}." + (f" Close matches: {', '.join(close)}." if close else "")


def _batched(transform: Callable[[Image], Tensor]) -> Callable[[Image], Tensor]:
    return lambda image: transform(rgb(image)).unsqueeze(0)


def _fit_and_normalize(image: Image, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The largest centred square, at the model's size: float tensor [1, 3, size, size]."""
    import numpy as np
    from PIL.Image import Resampling
    from PIL.ImageOps import fit

    pixels = np.array(fit(rgb(image), (size, size), Resampling.BICUBIC), dtype=np.float32) / 255
    normalized = (pixels - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(normalized).permute(2, 0, 1).unsqueeze(0).contiguous()


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in torch.as_tensor(values).flatten())
