"""Runs a model once and sends the relevance of its explained outputs back to a leaf.

The leaf is the input (``input_relevance``), or the residual stream that enters a block
(``stream_relevance``): what lies below it is then not touched at all. The model is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.lrp.interception import Refused, RuleInterceptor
from captum_ultra.relevance.lrp.records import MapRelevance
from captum_ultra.relevance.scope import frozen_in_eval_mode
from captum_ultra.relevance.stream import first_tensor, with_first_tensor

__all__ = ["StreamRelevance", "input_relevance", "stream_relevance"]


@dataclass(frozen=True)
class StreamRelevance:
    """What reached the residual stream.

    Attributes:
        relevance: of the stream [B, n, d] that enters the first block followed.
        maps: block -> the relevance of its attention map.
    """

    relevance: Tensor
    maps: dict[int, MapRelevance]


def input_relevance(
    run: Callable[[Tensor], Any], model: nn.Module, inputs: Tensor, explained: Callable[[Any], Tensor],
    *, batch_first: bool = True,
) -> Tensor:  # fmt: skip
    """Relevance of an input for one output of a model, by layer-wise relevance propagation.

    Every output explained starts with relevance 1. Weights and scales are constants and biases take none, so
    that what arrives sums to about 1 as well.

    Args:
        run: calls the model on an input like ``inputs``.
        model: the module whose flags and parameters are guarded.
        inputs: floating point [B, ...]; images [B, C, H, W] get the rule for pixels in the first layer.
        explained: from what ``run`` returns to the explained outputs [B].
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).

    Returns:
        Relevance in the shape of the inputs.

    Raises:
        UnsupportedModelError: names an operation that no rule covers, and the module that called it.
        ValueError: for half precision, and if the relevance is not finite.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
        >>> x = torch.rand(2, 3)
        >>> relevance = input_relevance(model, model, x, lambda logits: logits[:, 0])
        >>> relevance.shape
        torch.Size([2, 3])
    """
    interceptor = RuleInterceptor(model, batch_first)
    with _scope(model, interceptor):
        _check_precision(inputs)
        leaf = inputs.detach().clone().requires_grad_()
        signal = interceptor.begin(leaf, inputs.shape[0], pixels=inputs.dim() == 4)
        with interceptor:
            output = explained(run(signal))
        return _back(interceptor, output, leaf)


def stream_relevance(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], explained: Callable[[Any], Tensor],
    *, first: int = 0, batch_first: bool = True,
) -> StreamRelevance:  # fmt: skip
    """Relevance of the residual stream, and of every attention map from a block on, for one output of a model.

    Args:
        run: calls the model.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        explained: from what ``run`` returns to the explained outputs [B].
        first: number of the block whose input is the leaf.
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).

    Raises:
        UnsupportedModelError: names an operation that no rule covers, or a block without one attention.
        ValueError: for half precision, and if the relevance is not finite.
    """
    interceptor = RuleInterceptor(model, batch_first)
    leaves: list[Tensor] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        stream = first_tensor((args, kwargs))
        if leaves or stream is None or stream.dim() != 3:
            raise UnsupportedModelError(
                f"block {first} ({type(module).__name__}) carries no residual stream [batch, tokens, channels], or "
                "runs more than once: pass the ordered list of residual blocks as blocks=..."
            )
        _check_precision(stream)
        leaves.append(stream.detach().clone().requires_grad_())
        signal = interceptor.begin(leaves[0], stream.shape[0 if batch_first else 1], pixels=False)
        return with_first_tensor((args, kwargs), signal)

    with _scope(model, interceptor) as scope:
        scope.enter_context(_following(blocks, first, interceptor))
        scope.callback(blocks[first].register_forward_pre_hook(begin, with_kwargs=True).remove)
        with interceptor:
            output = explained(run())
        _check_blocks(interceptor, blocks, first)
        found = _back(interceptor, output, leaves[0])
    return StreamRelevance(found if batch_first else found.transpose(0, 1), interceptor.maps)


@contextmanager
def _scope(model: nn.Module, interceptor: RuleInterceptor) -> Iterator[ExitStack]:
    """Gradients on and parameters constant; what is entered on the stack is undone as well."""
    # Autocast would bring half precision back, in which the rules are worth nothing.
    device = next((each.device.type for each in model.parameters()), "cpu")
    with (
        torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False),
        frozen_in_eval_mode(model), ExitStack() as scope,
    ):  # fmt: skip
        try:
            yield scope
        except Refused as refused:
            raise refused.error from None
        except CheckpointError as error:
            raise UnsupportedModelError(
                "the model recomputes its blocks during the backward pass (activation checkpointing), outside the "
                "explanation's control: switch checkpointing off"
            ) from error
        finally:
            interceptor.forget()


def _check_precision(leaf: Tensor) -> None:
    if leaf.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"layer-wise relevance propagation in {leaf.dtype}: relevance is divided by sums that are nearly zero, "
            "which half precision turns into other maps; explain the model in float32: model.float(), inputs.float()"
        )


@contextmanager
def _following(blocks: Sequence[nn.Module], first: int, interceptor: RuleInterceptor) -> Iterator[None]:
    """Within: the interceptor knows which block is running."""

    def enter(index: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            interceptor.block = index

        return hook

    def leave(*_: Any) -> None:
        interceptor.block = None

    with ExitStack() as handles:
        for index, block in enumerate(blocks[first:], first):
            handles.callback(block.register_forward_pre_hook(enter(index)).remove)
            handles.callback(block.register_forward_hook(leave).remove)
        yield


def _check_blocks(interceptor: RuleInterceptor, blocks: Sequence[nn.Module], first: int) -> None:
    for index in range(first, len(blocks)):
        seen = interceptor.attentions[index]
        if seen != 1:
            raise UnsupportedModelError(
                f"block {index} ({type(blocks[index]).__name__}) runs {seen} attentions where one self-attention is "
                "expected: pass the modules that run one each as blocks=..."
            )


def _back(interceptor: RuleInterceptor, explained: Tensor, leaf: Tensor) -> Tensor:
    """The relevance of the leaf, 1 for every explained output."""
    if not explained.requires_grad:
        raise UnsupportedModelError(
            "the explained output does not depend on the input: the model switches gradients off (torch.no_grad, "
            "detach) or runs quantised kernels. Explain it without them, in float32 or bfloat16"
        )
    interceptor.check_seen(explained)
    try:
        (relevance,) = torch.autograd.grad(explained, leaf, torch.ones_like(explained))
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise UnsupportedModelError(
            "the model changes a value in place that a rule of layer-wise relevance propagation needs: write the "
            "change as an operation that returns a new tensor"
        ) from error
    if not relevance.isfinite().all():
        raise ValueError(
            "the relevance contains NaN or infinity: check the input, the weights, and the precision (float32)"
        )
    return relevance
