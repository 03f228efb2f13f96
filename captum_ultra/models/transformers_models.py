"""Models of transformers from the hub or a folder: with the head they were saved with, and what feeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captum_ultra.models.library import ModelNotAvailableError, import_library

__all__ = ["Parts", "auto_class", "load_parts"]

_HEADS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
}
_MISSING = {
    "configuration": ("config.json", "give a folder that save_pretrained of transformers wrote"),
    "weights": ("model.safetensors", "copy them there, or build the model untrained with pretrained=False"),
    "image processor": (
        "preprocessor_config.json",
        "save that of the model it was made from: AutoImageProcessor.from_pretrained('NAME').save_pretrained({folder})",
    ),
    "tokenizer": (
        "tokenizer.json",
        "save that of the model it was made from: AutoTokenizer.from_pretrained('NAME').save_pretrained({folder})",
    ),
}
_FILES = {
    "configuration": ("config.json",),
    "weights": ("*.safetensors", "*.bin"),
    "image processor": ("*processor_config.json",),
    "tokenizer": ("tokenizer*", "vocab*", "*.model"),
}


class Parts(NamedTuple):
    """A model and what prepares its input: an image processor, a tokenizer, or both."""

    model: Any
    processor: Any
    tokenizer: Any


def load_parts(name: str, rest: str, pretrained: bool) -> Parts:
    """The model of a repository or a folder.

    Args:
        name: what the user called it.
        rest: the repository or the folder.
        pretrained: with its weights.

    Raises:
        ValueError: there is no such folder.
        ModelNotAvailableError: a library is not installed, or a folder lacks a part.
        OSError: the repository is out of reach.
    """
    transformers = import_library("transformers", extra="transformers")
    if rest.startswith((".", "/")) and not Path(rest).is_dir():
        raise ValueError(f"unknown model {name!r}: there is no such folder.")

    def part(what: str, load: Callable[[], Any]) -> Any:
        return _from_folder(name, rest, what, load) if Path(rest).is_dir() else load()

    config = part("configuration", lambda: transformers.AutoConfig.from_pretrained(rest))
    auto = getattr(transformers, auto_class(_architectures(config)))
    model = part("weights", lambda: auto.from_pretrained(rest)) if pretrained else auto.from_config(config)
    processor = tokenizer = None
    if model.main_input_name == "input_ids":
        tokenizer = part("tokenizer", lambda: _tokenizer(transformers, rest))
    if model.main_input_name == "pixel_values" or hasattr(config, "vision_config"):
        import_library("torchvision", extra="transformers")
        processor = part("image processor", lambda: transformers.AutoImageProcessor.from_pretrained(rest))
    return Parts(model, processor, tokenizer)


def auto_class(architectures: Sequence[str] | None) -> str:
    """The auto class for a checkpoint: with its head where siblings of the method explain its logits.

    Example:
        >>> auto_class(["BertForSequenceClassification"]), auto_class(["BertForMaskedLM"])
        ('AutoModelForSequenceClassification', 'AutoModel')
    """
    architecture = (architectures or [""])[0]
    return next((auto for head, auto in _HEADS.items() if head in architecture), "AutoModel")


def _architectures(config: Any) -> Sequence[str] | None:
    """Those of the configuration; repositories of timm tell theirs by the number of classes alone."""
    if config.model_type == "timm_wrapper" and config.num_labels:
        return ["TimmWrapperForImageClassification"]
    return config.architectures


def _tokenizer(transformers: Any, rest: str) -> Any:
    """The tokenizer; without files transformers makes some that know no word.

    Raises:
        ValueError: for one of these.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(rest)
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ValueError(f"{type(tokenizer).__name__} without a vocabulary")
    return tokenizer


def _from_folder(name: str, folder: str, what: str, load: Callable[[], Any]) -> Any:
    """Run what reads a part of a folder, where no network helps.

    Raises:
        ModelNotAvailableError: says which part is missing and how to save it, or why it cannot be read.
        ImportError: for a library that is missing.
    """
    try:
        return load()
    except ImportError:
        raise
    except Exception as error:  # by kind of file and library
        if any(next(Path(folder).glob(pattern), None) for pattern in _FILES[what]):
            reason = f"the {what} of the folder cannot be read: {error}"
        else:
            file, remedy = _MISSING[what]
            reason = f"the folder holds no {what} ({file}); {remedy.format(folder=repr(folder))}"
        raise ModelNotAvailableError(f"cannot load {name!r}: {reason}.") from error
