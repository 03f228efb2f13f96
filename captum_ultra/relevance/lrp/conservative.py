"""Gradient times input in a graph where attention and the scale of normalisations are constants.

Ali et al. (ICML 2022, section 4): the gradient through a softmax and through the standard deviation of
a LayerNorm breaks the conservation of relevance. Taken as constants, an attention mixes values with fixed
weights and a normalisation is a linear map; everything else keeps its ordinary gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.interception import SOFTMAX, with_names
from captum_ultra.relevance.lrp.linear_norms import LINEAR_NORMS
from captum_ultra.relevance.scope import frozen_in_eval_mode
from captum_ultra.relevance.stream import first_tensor, with_first_tensor

__all__ = ["conservative_relevance"]

_SCALES = {torch.rsqrt, torch.Tensor.rsqrt}  # of root-mean-square norms that models write themselves


def conservative_relevance(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], explained: Callable[[Any], Tensor],
    *, batch_first: bool = True,
) -> Tensor:  # fmt: skip
    """Relevance [B, n] of the tokens that enter the first block, for one output of a model; signed.

    Args:
        run: calls the model.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        explained: from what ``run`` returns to the explained outputs [B].
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).

    Raises:
        UnsupportedModelError: if a normalisation was computed in a way that was not seen, or the explained output
            does not depend on the stream.
        ValueError: if the relevance is not finite.
    """
    graph = _ConstantWeights()
    leaves: list[Tensor] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        stream = first_tensor((args, kwargs))
        if leaves or stream is None or stream.dim() != 3 or not stream.is_floating_point():
            raise UnsupportedModelError(
                f"block 0 ({type(module).__name__}) carries no residual stream [batch, tokens, channels], or runs "
                "more than once: pass the ordered list of residual blocks as blocks=..."
            )
        leaves.append(stream.detach().clone().requires_grad_())
        return with_first_tensor((args, kwargs), leaves[0].clone())

    with ExitStack() as scope:
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.enable_grad())
        scope.enter_context(frozen_in_eval_mode(model))
        scope.enter_context(_normalisations(model, graph))
        scope.callback(blocks[0].register_forward_pre_hook(begin, with_kwargs=True).remove)
        with graph:
            scores = explained(run())
        if not leaves or not scores.requires_grad:
            raise UnsupportedModelError(
                "the explained output does not depend on the stream that enters the first block: the blocks belong to "
                "another part of the model, or it switches gradients off"
            )
        (gradient,) = torch.autograd.grad(scores.sum(), leaves)
    wide = torch.promote_types(gradient.dtype, torch.float32)
    relevance = (gradient.to(wide) * leaves[0].detach()).sum(-1)
    if not relevance.isfinite().all():
        raise ValueError("the relevance contains NaN or infinity: check the input, the weights, and the precision")
    return relevance if batch_first else relevance.transpose(0, 1)


class _ConstantWeights(TorchFunctionMode):
    """While active, attention probabilities and the scales of normalisations are constants in the graph.

    Attributes:
        norms: how many normalisations have been met.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norms = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return with_names(func, has_torch_function=lambda tensors: False)(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attend(*args, **kwargs)
        if func in SOFTMAX and _is_over_tokens(*args, **kwargs):
            return func(*args, **kwargs).detach()
        if func in _SCALES:
            self.norms += 1
            return func(*args, **kwargs).detach()
        if func in LINEAR_NORMS:
            self.norms += 1
            return LINEAR_NORMS[func](*args, **kwargs)
        if func in (F.batch_norm, torch.batch_norm):  # its scale is a constant in evaluation mode
            self.norms += 1
        return func(*args, **kwargs)


def _attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Attention in which only the values are signals: the fused kernel's own backward pass gives dv = A^T dO."""
    mask = kwargs.get("attn_mask", args[0] if args else None)
    if isinstance(mask, Tensor) and mask.requires_grad:
        args = (mask.detach(), *args[1:]) if args else args
        kwargs = {**kwargs, "attn_mask": mask.detach()} if not args else kwargs
    return F.scaled_dot_product_attention(query.detach(), key.detach(), value, *args, **kwargs)


def _is_over_tokens(input: Tensor, *args: Any, dim: int | None = None, **_: Any) -> bool:
    """Whether a softmax makes attention probabilities: over the last axis of [B, H, n, m] or [B H, n, m]."""
    dim = args[0] if args and dim is None else dim
    return input.dim() >= 3 and dim in (-1, input.dim() - 1)


@contextmanager
def _normalisations(model: nn.Module, graph: _ConstantWeights) -> Iterator[None]:
    """Within, a module that calls itself a norm and in which none was met is refused."""
    met: list[int] = []

    def enter(*_: Any) -> None:
        met.append(graph.norms)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        result = first_tensor(output)
        if met.pop() == graph.norms and result is not None and result.requires_grad:
            raise UnsupportedModelError(
                f"{type(module).__name__} computes its normalisation in a way that cannot be followed (a kernel of its "
                "own, or operations beside layer_norm, rms_norm, group_norm and rsqrt): replace it by nn.LayerNorm or "
                "nn.RMSNorm with the same weights"
            )

    with ExitStack() as handles:
        for module in model.modules():
            if "norm" in type(module).__name__.lower():
                handles.callback(module.register_forward_pre_hook(enter).remove)
                handles.callback(module.register_forward_hook(leave).remove)
        yield
