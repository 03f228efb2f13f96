"""The small language model that ships with the package: a Llama of transformers that knows documents of facts."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from captum_ultra.models.library import import_library
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["facts_llama", "facts_tokenizer"]

_FOLDER = resources.files("captum_ultra.models") / "weights" / "facts_llama"


def facts_llama(pretrained: bool = True) -> LlamaForCausalLM:
    """The small Llama that ships with the package, float32, on the CPU, in eval mode.

    It learned to continue the documents of :mod:`captum_ultra.data.facts`, whose summaries rest on
    known words of the context; how, and how well, is in ``docs/facts.md``. Where the evidence is, it was
    never told.

    Args:
        pretrained: False for the same architecture with random weights.

    Returns:
        A ``transformers.LlamaForCausalLM``: rotary positions, grouped-query attention, tied embeddings.

    Raises:
        ModelNotAvailableError: if transformers is not installed.

    Example:
        >>> model, tokenizer = facts_llama(), facts_tokenizer()
        >>> text = "Mara lives in Rome.\\nTL;DR: The home of Mara is somewhere in"
        >>> tokens = tokenizer(text, return_tensors="pt")
        >>> tokenizer.decode(model(tokens["input_ids"]).logits[0, -1].argmax())
        'Italy'
    """
    transformers = _transformers()
    with resources.as_file(_FOLDER) as folder:
        if pretrained:
            model = transformers.LlamaForCausalLM.from_pretrained(folder, local_files_only=True)
        else:
            config = transformers.LlamaConfig.from_pretrained(folder, local_files_only=True)
            model = transformers.LlamaForCausalLM(config)
    # The file holds half precision, which not every CPU kernel takes.
    return model.float().eval()


def facts_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of :func:`facts_llama`: a word, a full stop or "TL;DR:" is one token, ``<s>`` comes first.

    Returns:
        A ``transformers.PreTrainedTokenizerFast`` with character offsets.

    Raises:
        ModelNotAvailableError: if transformers is not installed.

    Example:
        >>> facts_tokenizer().tokenize("Mara lives in Rome.\\nTL;DR: Mara")
        ['Mara', 'lives', 'in', 'Rome', '.', 'TL;DR:', 'Mara']
    """
    with resources.as_file(_FOLDER) as folder:
        return _transformers().PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _transformers() -> Any:
    ensure_torchvision_imports()  # transformers' classes import torchvision, where it is installed
    return import_library("transformers", extra="text")
