"""Blocks of a model that no adapter knows: found by watching where attention happens.

A run of the model records, for every attention call, the modules it happened in. The blocks are
the children of the container (ModuleList or Sequential) of which the most children ran exactly
one attention each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.adapters.view import Call, TransformerView, call_plainly
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import explaining
from captum_ultra.relevance.calls import SOFTMAX
from captum_ultra.relevance.threads import in_this_thread

__all__ = ["discover"]


def discover(model: nn.Module, inputs: Tensor, extra: Any, call: Call = call_plainly) -> TransformerView:
    """A view of a model by the attentions that a run of it shows.

    Raises:
        UnsupportedModelError: if no attention is seen, or several containers fit equally well.
    """
    attentions = _attentions_by_module(model, lambda: call(model, inputs, extra))
    found = {}
    for name, container in model.named_modules():
        children = list(container.children())
        is_container = isinstance(container, nn.ModuleList | nn.Sequential) and children
        if is_container and all(attentions[child] == 1 for child in children):
            found[name] = children
    if not found:
        raise UnsupportedModelError(_nothing_found(model, attentions))
    most = max(len(children) for children in found.values())
    chains = [name for name, children in found.items() if len(children) == most]
    if len(chains) > 1:
        raise UnsupportedModelError(
            f"{type(model).__name__} has several chains of {most} attention blocks ({', '.join(chains)}); "
            "say which one carries the tokens you mean: blocks=" + repr(chains[0])
        )
    prefix = getattr(model, "num_prefix_tokens", None)
    return TransformerView(type(model).__name__, model, found[chains[0]], call, prefix, discovered=True)


def _nothing_found(model: nn.Module, attentions: Counter[nn.Module]) -> str:
    name = type(model).__name__
    if not attentions[model]:
        return (
            f"{name} ran no softmax attention that can be followed: convolutional networks have none, and kernels "
            "such as flash-attention or flex-attention hide theirs. Explain a transformer that calls "
            "scaled_dot_product_attention or computes its own softmax"
        )
    return (
        f"{name} ran {attentions[model]} attentions, but no ModuleList or Sequential whose children run exactly one "
        "each; pass the residual blocks in order as blocks=..."
    )


def _attentions_by_module(model: nn.Module, run: Callable[[], Any]) -> Counter[nn.Module]:
    """How many attention calls ran inside each module, counted in one run in evaluation mode, of this thread alone."""
    stack: list[nn.Module] = []
    counts: Counter[nn.Module] = Counter()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func in _CALLS or (func in SOFTMAX and _square(result)):
                counts.update(set(stack))
            return result

    def enter(module: nn.Module, args: Any) -> None:
        stack.append(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        stack.pop()

    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(in_this_thread(enter)))
            handles.append(module.register_forward_hook(in_this_thread(leave)))
        with explaining(model, gradients=False), Watch():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return counts


_CALLS = {F.scaled_dot_product_attention, F.multi_head_attention_forward}


def _square(probabilities: Tensor) -> bool:
    rows, columns = probabilities.shape[-2:] if probabilities.dim() >= 3 else (0, -1)
    return columns in (rows, rows + 1)
