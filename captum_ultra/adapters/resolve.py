"""From a model and its input to a view of it: named blocks, a library's adapter, or discovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import open_clip, timm, torchvision, transformer_lens, transformers
from captum_ultra.adapters.discovery import discover
from captum_ultra.adapters.view import TransformerView, call_plainly, library_of
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.uncompiled import compiled_part, uncompiled_is_possible

__all__ = ["Blocks", "check_model", "resolve"]

Blocks = str | Sequence[str | nn.Module]

# An adapter is a module with ``view(model, inputs, blocks)``, where models of the library are not called plainly
# ``call(model, inputs, extra)``, and where they may have towers ``tower(model, inputs)``, the one that is meant.
# A class may derive from several libraries (a bridge wraps a transformers model): the first that fits speaks.
_ADAPTERS = {
    "transformer_lens": transformer_lens,
    "open_clip": open_clip,
    "timm": timm,
    "torchvision": torchvision,
    "transformers": transformers,
}


def resolve(model: nn.Module, inputs: Tensor, extra: Any = None, blocks: Blocks | None = None) -> TransformerView:
    """The view through which this model is explained on this input.

    Args:
        model: any module; of a two-tower model the input decides which tower (float images:
            vision, integer ids: text).
        inputs: the input that will be explained.
        extra: Captum's ``additional_forward_args``, needed where a run decides.
        blocks: name of a container of blocks, or their names or modules in order; overrides what
            would be found.

    Raises:
        UnsupportedModelError: if the model cannot be explained, with reason and remedy.
        ValueError: if ``blocks`` does not name modules of the model.
    """
    adapter = next((_ADAPTERS[name] for name in _ADAPTERS if name in library_of(model)), None)
    if blocks is not None:
        modules = named_blocks(model, blocks)
        found = adapter.view(model, inputs, modules) if adapter else None
        found = found or TransformerView(type(model).__name__, model, modules)
    else:
        found = adapter.view(model, inputs) if adapter else None
        part = getattr(adapter, "tower", lambda model, inputs: model)(model, inputs)
        found = found or discover(part, inputs, extra, getattr(adapter, "call", call_plainly))
    return replace(
        found,
        batch_first=all(_is_batch_first(block) for block in found.blocks),
        stop_early=not any(hasattr(module, "_hf_hook") for module in model.modules()),
    )


def check_model(model: Any) -> None:
    """Refuse what is no eager module: wrappers hide the attention from every hook."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}; wrap a function in a module")
    wrappers = {
        "OptimizedModule": "is compiled, which hides the attention; pass the original module (model._orig_mod)",
        "DataParallel": "runs replicas that no hook follows; pass model.module and batch the work yourself",
        "DistributedDataParallel": "synchronises gradients that are not needed; pass model.module",
    }
    name = type(model).__name__
    if name in wrappers:
        raise UnsupportedModelError(f"{name} {wrappers[name]}")
    compiled = compiled_part(model)
    if compiled is not None and not uncompiled_is_possible():
        raise UnsupportedModelError(
            f"{name} is compiled ({compiled or 'the model itself'}), which hides its operations, and torch "
            f"{torch.__version__} does not let compiled code run as it was written: explain the model before "
            "torch.compile, which leaves its weights as they are, or update torch"
        )
    absent = next((each for each, parameter in model.named_parameters() if parameter.is_meta), None)
    if absent is not None and not any(hasattr(module, "_hf_hook") for module in model.modules()):
        raise UnsupportedModelError(
            f"{name} has no values for {absent}, which is on the meta device: fill it first, by "
            'model.to_empty(device="cpu") and model.load_state_dict(...)'
        )
    for part in model.modules():
        if type(part).__module__.startswith("torch.ao.nn.") and "quantized" in type(part).__module__:
            raise UnsupportedModelError(
                f"{name} holds a quantised {type(part).__name__}, whose kernel has no backward pass; explain the model "
                "before its quantisation, in float32 or bfloat16"
            )
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModelError(f"{name} is a TorchScript module, which hides the attention; pass the eager module")


def named_blocks(model: nn.Module, blocks: Blocks) -> list[nn.Module]:
    """The modules that ``blocks`` names: a container's children, or each module by itself."""
    if isinstance(blocks, str):
        container = _submodule(model, blocks)
        found = list(container.children())  # each once
        if not found:
            raise ValueError(f"blocks={blocks!r} names a module without children; name the container of the blocks")
        if isinstance(container, nn.ModuleList | nn.Sequential) and len(container) > len(found):
            raise UnsupportedModelError(
                f"blocks={blocks!r} holds a {type(found[0]).__name__} more than once; the passages through a shared "
                "block cannot be told apart: explain a model whose blocks run once each"
            )
        return found
    found = [_submodule(model, each) if isinstance(each, str) else each for each in blocks]
    known = set(model.modules())
    strangers = [type(each).__name__ for each in found if each not in known]
    if strangers or not found:
        raise ValueError(
            f"blocks={blocks!r} must be modules of the model; not among them: {strangers or 'nothing given'}"
        )
    return found


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        containers = [n for n, m in model.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential) and n]
        raise ValueError(
            f"blocks: {type(model).__name__} has no module {name!r}; containers: {', '.join(containers) or 'none'}"
        ) from None


def _is_batch_first(block: nn.Module) -> bool:
    attentions = [module for module in block.modules() if isinstance(module, nn.MultiheadAttention)]
    return all(attention.batch_first for attention in attentions)
