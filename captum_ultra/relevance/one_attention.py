"""What a block must do to be followed: one attention, of all its tokens among themselves."""

from __future__ import annotations

from collections.abc import Sequence

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import AttentionCall

__all__ = ["check_attention", "check_count"]


def check_attention(call: AttentionCall, batch: int, tokens: int, where: str) -> None:
    """Raise unless a call is a reproducible attention over all tokens.

    Args:
        call: with an axis of heads.
        batch: number of samples.
        tokens: of the stream.
        where: the block, for the message.

    Raises:
        UnsupportedModelError: with the reason.
    """
    query = call.query
    if query.dim() == 3 and query.shape[1] == tokens and query.shape[0] % batch == 0:
        raise UnsupportedModelError(
            f"{where} has its heads and its {batch} samples on one axis, in queries of shape {list(query.shape)}, "
            "which does not tell them apart: explain one sample at a time"
        )
    if query.dim() != 4 or (query.shape[0], query.shape[-2]) != (batch, tokens):
        raise UnsupportedModelError(
            f"{where} attends within queries of shape {list(query.shape)} where [{batch}, heads, {tokens}, d] is "
            "expected; windowed, pooled and channel attention mix other things than all tokens: explain a model with "
            "global attention"
        )
    if call.key.shape[-2] != tokens:
        raise UnsupportedModelError(
            f"{where} attends from {tokens} tokens to {call.key.shape[-2]} keys; pooled keys, cross-attention, "
            "key-value caches and added key tokens bring in information from elsewhere: explain an encoder, "
            "or a decoder without them"
        )
    if call.dropout > 0:
        raise UnsupportedModelError(
            f"{where} applies attention dropout (p={call.dropout}) in evaluation mode; explanations of random "
            "attention are not reproducible: set the dropout to 0"
        )
    if call.mask is not None and call.mask.requires_grad:
        raise UnsupportedModelError(
            f"{where} computes its attention bias from the latents and passes it to a fused kernel, which hides the "
            "bias from the explanation: load the model with eager attention"
        )


def check_count(seen: int, near_misses: Sequence[str], tokens: int, where: str) -> None:
    """Raise unless a block ran exactly one attention.

    Args:
        seen: number of attentions over all tokens.
        near_misses: shapes of softmaxes over something else.
        tokens: of the stream.
        where: the block, for the message.

    Raises:
        UnsupportedModelError: with the reason.
    """
    if seen > 1:
        raise UnsupportedModelError(
            f"{where} runs {seen} attentions where one is expected (cross-attention, parallel branches, or several "
            "layers in one block); explain a model whose blocks run one self-attention each. Where the block only "
            "holds such blocks, name these: blocks=[...]"
        )
    if not seen:
        near = f"; softmax over {', '.join(near_misses)} is not over all tokens" if near_misses else ""
        raise UnsupportedModelError(
            f"no softmax attention over all {tokens} tokens was seen in {where}{near}: it attends within windows, over "
            "pooled tokens or channels, mixes its tokens by other means (state space, linear attention, convolution), "
            "or calls a kernel that hides its attention. Explain a model whose blocks attend over all tokens by "
            "scaled_dot_product_attention or a softmax of their own"
        )
