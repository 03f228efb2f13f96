"""Blocks of a model that no adapter knows: found by watching where attention happens.

A run of the model records, for every attention call on something that depends on the explained input, the modules it
happened in. The blocks are the children of the container (ModuleList or Sequential) of which the most children ran
exactly one attention each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.adapters.view import Call, TransformerView, call_plainly
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import explaining
from captum_ultra.relevance.calls import SOFTMAX
from captum_ultra.relevance.probe import InputLeaf, Named, examine

__all__ = ["discover"]


def discover(model: nn.Module, inputs: Tensor, extra: Any, call: Call = call_plainly) -> TransformerView:
    """A view of a model by the attentions that a run of it shows.

    Raises:
        UnsupportedModelError: if no attention is seen, or several containers fit equally well.
    """
    attentions, runs = _attentions_by_module(model, inputs, extra, call)
    found = {}
    for name, container in model.named_modules():
        children = list(container.children())
        is_container = isinstance(container, nn.ModuleList | nn.Sequential) and children
        if is_container and all(attentions[child] == runs[child] == 1 for child in children):
            found[name] = children
    if not found:
        raise UnsupportedModelError(_nothing_found(model, attentions, runs))
    most = max(len(children) for children in found.values())
    chains = {name: children for name, children in found.items() if len(children) == most}
    name, blocks = next(iter(chains.items()))
    if len(chains) > 1:
        possible = _that_can_be_followed(model, inputs, extra, call, chains)
        raise UnsupportedModelError(
            f"{type(model).__name__} has several chains of {most} attention blocks ({', '.join(possible)}); "
            "say which one carries the tokens you mean: blocks=" + repr(possible[0])
        )
    return TransformerView(type(model).__name__, model, blocks, call, discovered=True)


def _that_can_be_followed(
    model: nn.Module, inputs: Tensor, extra: Any, call: Call, chains: Mapping[str, Sequence[nn.Module]]
) -> list[str]:
    """The names of the chains that an explanation can follow.

    Raises:
        UnsupportedModelError: if that is none, with the reason of the first.
    """
    refusals: list[UnsupportedModelError] = []
    possible = []
    for name, blocks in chains.items():
        try:
            examine(lambda: call(model, inputs, extra), model, blocks)
            possible.append(name)
        except UnsupportedModelError as error:  # noqa: PERF203
            refusals.append(error)
    if not possible:
        raise refusals[0]
    return possible


def _nothing_found(model: nn.Module, attentions: Counter[nn.Module], runs: Counter[nn.Module]) -> str:
    name = type(model).__name__
    if not attentions[model]:
        return (
            f"{name} ran no softmax attention that can be followed: convolutional networks have none, and kernels "
            "such as flash-attention or flex-attention hide theirs. Explain a transformer that calls "
            "scaled_dot_product_attention or computes its own softmax"
        )
    shared = [type(each).__name__ for each in attentions if attentions[each] == runs[each] > 1]
    if shared:
        return (
            f"{name} runs one {shared[-1]} several times, so that its layers cannot be told apart by module; explain a "
            "model whose blocks have weights of their own"
        )
    return (
        f"{name} ran {attentions[model]} attentions, but no ModuleList or Sequential whose children run exactly one "
        "each: it is built of stages, or of modules without a list. Where some of its modules are residual blocks, one "
        "behind the other, that run one attention over all tokens each, name them in order: blocks=[...]"
    )


def _attentions_by_module(
    model: nn.Module, inputs: Tensor, extra: Any, call: Call
) -> tuple[Counter[nn.Module], Counter[nn.Module]]:
    """How many attention calls ran inside each module, in one run in evaluation mode, and how often each ran itself."""
    named, leaf = Named(model), InputLeaf(inputs)
    all_of_them: Counter[nn.Module] = Counter()
    of_the_input: Counter[nn.Module] = Counter()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func in _CALLS or (func in SOFTMAX and _square(result)):
                modules = {model: None, **dict.fromkeys(named.stack)}
                all_of_them.update(modules.keys())
                if (result[0] if isinstance(result, tuple) else result).requires_grad:
                    of_the_input.update(modules.keys())
            return result

    with leaf, Watch(), explaining(model), named.watching():
        call(model, leaf.inputs, extra)
    return (of_the_input if leaf.found and of_the_input else all_of_them), named.runs


_CALLS = {F.scaled_dot_product_attention, F.multi_head_attention_forward}


def _square(probabilities: Tensor) -> bool:
    rows, columns = probabilities.shape[-2:] if probabilities.dim() >= 3 else (0, -1)
    return columns in (rows, rows + 1)
