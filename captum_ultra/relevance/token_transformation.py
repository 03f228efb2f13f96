"""How much every sublayer changes a token: the weights that TokenTM gives to the columns of its updates.

An observer of the blocks. While a block runs it finds the value projection's result, the output
projection of the attention, and the two residual sums, and makes of them (E the stream below a
sublayer, E~ what the sublayer adds to it, one for every head of an attention):

    w_i = ||E~_i|| / ||E_i|| * NECC_i,        NECC = softmax over all tokens of cos(E_i, E~_i)

Padding is no token; its weight is zero.

What it finds is kept, and made into weights when relevance is pulled back, so that one run serves every choice of
factors. No tensor [heads, n, d] is made: with G_h = W_h W_h^T the Gram matrix of head h's output projection,
``||E~_hi||^2 = v_hi G_h v_hi^T`` and ``E_i . E~_hi = (E_i W_h^T) . v_hi``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.graph import nodes_below

__all__ = ["TokenTransformation", "TransformationWeights"]

_ADDITIONS = {torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__}
_PRODUCTS = {torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__, torch.Tensor.mul_}


@dataclass(frozen=True)
class TransformationWeights:
    """Which factors make a token's weight.

    Attributes:
        length: the ratio of lengths ||E~|| / ||E||.
        necc: the normalised cosine between a token and what is added to it.
        necc_scale: what NECC is multiplied by: "one", or "n", the number of a sample's tokens: then its mean is one.
    """

    length: bool = True
    necc: bool = True
    necc_scale: str = "one"

    @property
    def any(self) -> bool:
        """Whether there is a factor at all."""
        return self.length or self.necc

    def of(self, change: _Change, seen: Tensor) -> Tensor:
        """Weights [..., n] of tokens to which something was added; none of those [B, n] that are not seen."""
        seen = seen.to(change.products.device)
        seen = seen if change.products.dim() == seen.dim() else seen[:, None]
        lengths = change.lengths.clamp(min=torch.finfo(change.lengths.dtype).tiny)
        weights = torch.ones_like(change.products)
        if self.length:
            weights = weights * (change.added / lengths)
        if self.necc:
            cosines = change.products / (lengths * change.added).clamp(min=torch.finfo(lengths.dtype).tiny)
            scale = seen.sum(-1, keepdim=True) if self.necc_scale == "n" else 1
            weights = weights * cosines.masked_fill(~seen, -torch.inf).softmax(-1) * scale
        return weights.masked_fill(~seen, 0)


class _Change(NamedTuple):
    """Of every token: ||E||, the length ||E~|| of what is added to it, and the inner product of both; [..., n]."""

    lengths: Tensor
    added: Tensor
    products: Tensor


class TokenTransformation:
    """Observes how every sublayer changes the tokens of the blocks that run."""

    def __init__(self) -> None:
        self._attentions: dict[int, _Change] = {}
        self._feed_forwards: dict[int, _Change] = {}
        self._refusal: UnsupportedModelError | None = None

    def weights(self, factors: TransformationWeights, seen: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Block -> weights of the attention's keys [B, H, n], and 1 + those of the feed-forward part's tokens [B, n].

        Args:
            factors: which make a weight.
            seen: [B, n], False for padding.

        Raises:
            UnsupportedModelError: where a block does something between its attention, its output projection and its
                residual sums that the weights do not cover; names the block.
        """
        if self._refusal is not None:
            raise self._refusal
        keys = {block: factors.of(change, seen) for block, change in self._attentions.items()}
        return keys, {block: 1 + factors.of(change, seen) for block, change in self._feed_forwards.items()}

    def enter(self, block: int, name: str, stream: Tensor) -> None:
        self._where, self._block = f"block {block} ({name})", block
        self._stream = stream
        self._attention: tuple[Tensor, Tensor] | None = None
        self._projection: Tensor | None = None
        self._branch: Tensor | None = None  # what the attention adds, on its way to the residual sum
        self._middle: Tensor | None = None  # the stream between the sublayers
        self._second: Tensor | None = None  # what the second sublayer adds
        self._sum: Tensor | None = None  # the stream between the sublayers and what the second one adds

    def attended(self, call: AttentionCall, output: Tensor) -> None:
        self._attention = call.value, output

    def hidden(self) -> None:
        self._refuse(
            "computes its own softmax, which hides its values from this method: load the model with fused attention "
            '(attn_implementation="sdpa", fused_attn=True)'
        )

    def called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if self._attention is None or self._refusal is not None or not isinstance(result, Tensor):
            return
        operands = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        if self._projection is None:
            if function is F.linear:
                self._projection, self._branch = self._projection_of(*operands[:2]), result
        elif self._middle is None:
            self._follow_branch(function, args, kwargs, result)
        elif function in _ADDITIONS:
            added, scale = _added_to(self._middle, *args, **kwargs)
            if scale is not None:
                self._second, self._sum = added, result

    def leave(self, stream: Tensor) -> None:
        if self._refusal is not None:
            return
        if self._middle is None:
            self._refuse("does not add what its attention's output projection gives to the stream below it")
        elif self._sum is None or not _same(self._sum, stream):
            self._refuse("does not leave the sum of its second part and the stream between the two parts")
        elif not _is_made_of(self._second, self._middle, self._stream):
            self._refuse("runs its second part beside its attention, not on the stream that the attention leaves")
        else:
            middle = self._batch_first(self._middle)
            added = stream - middle
            self._feed_forwards[self._block] = _Change(_norm(middle), _norm(added), _inner(middle, added))
        self._attention = self._projection = self._branch = None  # parts of the graph
        self._middle = self._second = self._sum = None

    def _projection_of(self, joined: Tensor, weight: Tensor) -> Tensor | None:
        """The output projection by head [H, d_v, d], if it is applied to the attention's output as it is."""
        assert self._attention is not None
        _, output = self._attention
        heads, d_v = output.shape[1], output.shape[3]
        rows = {"batch first": (0, 2, 1, 3), "tokens first": (2, 0, 1, 3)}
        if joined.numel() == output.numel() and weight.shape[1] == heads * d_v:
            for order in rows.values():
                if torch.equal(joined.reshape(-1), output.permute(order).reshape(-1)):
                    return weight.detach().T.reshape(heads, d_v, -1)
        if not output.isfinite().all():
            return None  # the trace says so
        self._refuse("does something to its attention's output before the output projection")
        return None

    def _follow_branch(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """From the output projection to the residual sum; a scale on the way (LayerScale) is one of the projection."""
        assert self._branch is not None and self._projection is not None
        operands = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        if not any(_same(each, self._branch) for each in operands):
            return
        if function in _PRODUCTS:
            factor = next((each for each in args if not (isinstance(each, Tensor) and _same(each, self._branch))), 1.0)
            if self._scale_projection(factor):
                self._branch = result
        elif function in _ADDITIONS:
            _, scale = _added_to(self._stream, *args, **kwargs)
            if scale is not None and self._scale_projection(scale):
                self._middle = result
                self._weigh_attention()

    def _scale_projection(self, factor: Any) -> bool:
        """Multiply the projection by one number, or by one a channel; whether that is what the factor is."""
        assert self._projection is not None
        if isinstance(factor, Tensor) and factor.numel() not in (1, self._projection.shape[-1]):
            self._refuse("multiplies what its attention adds by more than one factor a channel")
            return False
        self._projection = self._projection * (factor.detach() if isinstance(factor, Tensor) else factor)
        return True

    def _weigh_attention(self) -> None:
        assert self._attention is not None and self._projection is not None
        value, output = self._attention
        v = value.detach().repeat_interleave(output.shape[1] // value.shape[1], dim=1)
        v = v.to(torch.promote_types(v.dtype, torch.float32))
        projection, stream = self._projection.to(v), self._stream.detach().to(v)
        gram = projection @ projection.transpose(1, 2)  # [H, d_v, d_v]
        added = ((v @ gram) * v).sum(-1).clamp(min=0).sqrt()  # [B, H, n]
        reached = torch.einsum("bnd,hvd->bhnv", stream, projection)
        products = (reached * v).sum(-1)
        self._attentions[self._block] = _Change(_norm(stream)[:, None], added, products)

    def _batch_first(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.shape[:2] == self._stream.shape[:2] else tensor.transpose(0, 1)

    def _refuse(self, what: str) -> None:
        """Remember why TokenTM cannot explain the run, which other methods may share."""
        self._refusal = self._refusal or UnsupportedModelError(
            f"{self._where} {what}, so that the change of its tokens cannot be measured; TokenTM explains pre-norm "
            "blocks x + attention(norm(x)), then x + mlp(norm(x)): take GenericAttention for this model"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are views of the same numbers, in whatever shape."""
    return one.numel() == other.numel() and one.data_ptr() == other.data_ptr()


def _added_to(stream: Tensor, input: Any, other: Any, *, alpha: Any = 1, **_: Any) -> tuple[Any, Any]:
    """Of a sum ``input + alpha * other``: what is added to a stream, and its factor; None where no stream is kept."""
    if isinstance(input, Tensor) and _same(input, stream):
        return other, alpha
    if isinstance(other, Tensor) and _same(other, stream) and alpha == 1:
        return input, 1
    return None, None


def _is_made_of(result: Any, source: Tensor, earlier: Tensor) -> bool:
    """Whether a result depends on a source, and on what came earlier through the source alone."""
    nodes = set(nodes_below([result.grad_fn], {source.grad_fn})) if isinstance(result, Tensor) else set()
    return source.grad_fn in nodes and earlier.grad_fn not in nodes


def _norm(tokens: Tensor) -> Tensor:
    """[..., n, d] -> [..., n], without a graph, in at least float32."""
    return tokens.detach().to(torch.promote_types(tokens.dtype, torch.float32)).norm(dim=-1)


def _inner(one: Tensor, other: Tensor) -> Tensor:
    dtype = torch.promote_types(one.dtype, torch.float32)
    return (one.detach().to(dtype) * other.detach().to(dtype)).sum(-1)
