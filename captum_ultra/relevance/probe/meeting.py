"""Where the tokens of a block meet: in its one attention, or elsewhere as well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.probe.reach import Rows, gradients_to

__all__ = ["Meeting"]

_SELF_ATTENTION = "explain a model, or the part of one, whose blocks run self-attention"


class Meeting:
    """What is found out about one block while it runs.

    Args:
        name: of the block, for messages.
        number: of the block.
        stream: the leaf [B, n, d] that enters it.
        earlier: leaves of earlier blocks, and what the stream was before the first one, all [B, n, ...].
    """

    def __init__(self, name: str, number: int, stream: Tensor, earlier: Sequence[Tensor]) -> None:
        self.name, self.tokens, self.batch = name, stream.shape[1], len(stream)
        self._stream, self._earlier = stream, list(earlier)
        rows = Rows(self.tokens, number)
        self._sides = [rows] if self.tokens == 1 else [rows, rows.complement()]
        self._cuts: list[tuple[Tensor, int]] = []  # what was cut out of the run, and its axis of queries
        self._values: list[bool] = []  # of each product with probabilities: whether its values are the tokens'
        self.probabilities: Tensor | None = None

    def cut(self, output: Tensor, axis: int) -> Tensor:
        """A leaf in place of what an attention gave, whose queries stand on this axis."""
        leaf = output.detach().requires_grad_()
        self._cuts.append((leaf, axis))
        return leaf.clone()

    def made(self, name: str, made: Tensor, axis: int) -> bool:
        """Whether keys, values or queries are made of tokens; raises where one row is made of several."""
        found = gradients_to([self._stream, *self._earlier], made, self._sides[0].cotangent(made, axis))
        reached = [each for each in found if each is not None]
        if any(self._sides[0].reach_others(each, 1) for each in reached):
            self._mixes(f"to make its {name}")
        return bool(reached) or not torch.is_grad_enabled()

    def must_be_own(self, name: str, made: Tensor, axis: int) -> None:
        """Raise unless keys, values or queries are made, row by row, of the block's tokens (or an earlier one's)."""
        if not self.made(name, made, axis):
            self._refuse(
                f"takes its {name} from elsewhere than its own tokens (cross-attention, a memory, learned vectors)",
                _SELF_ATTENTION,
            )

    def softmax(self, probabilities: Tensor, scores: Tensor) -> Tensor:
        """Check the scores of a softmax; returns the probabilities as a leaf."""
        rows, leaves = self._sides[0], [self._stream, *self._earlier]
        found = gradients_to(leaves, scores, rows.of_scores(scores))
        if any(each is not None and rows.reach_others(each, 1) for each in found):
            self._mixes("to make its scores")
        query = int(rows.asked.nonzero()[-1])
        of_one = [each for each in gradients_to(leaves, scores, rows.of_scores(scores, query)) if each is not None]
        keys = rows.asked.clone()
        keys[query] = False
        if any(each[:, query].any() for each in of_one) and not any(each[:, keys].any() for each in of_one):
            self._refuse(
                "takes its keys from elsewhere than its own tokens (cross-attention, a memory, learned vectors)",
                _SELF_ATTENTION,
            )
        self.probabilities = probabilities.detach()
        return self.cut(self.probabilities, -2)

    def product(self, values: Tensor, keys: int, queries: int, result: Tensor) -> Tensor:
        """Check the values of a product with the probabilities; returns the result as a leaf."""
        self._values.append(values.shape[keys] != self.tokens or self.made("values", values, keys))
        return self.cut(result, queries)

    def check(self, stream: Tensor) -> None:
        """Raise unless what leaves the block [B, n, d] is made, beside its attention, token by token of what entered.

        Raises:
            UnsupportedModelError: says what the block does.
        """
        if self.probabilities is not None and not self._values:
            self._refuse(
                "does not multiply the values by the probabilities that its softmax made: they are mixed between "
                "heads, renormalised or replaced on the way, or the product is not one that can be recognised",
                "explain a model in which nothing stands between the softmax and the values; where you know that "
                "nothing does, probe=False explains it",
            )
        if self._values and not any(self._values):
            self._refuse(
                "takes its values from elsewhere than its own tokens (cross-attention, a memory, learned vectors)",
                _SELF_ATTENTION,
            )
        for side, rows in enumerate(self._sides):
            self._check_side(stream, rows, -1 if side else 0)

    def _check_side(self, stream: Tensor, rows: Rows, sample: int) -> None:
        places = [(self._stream, 1), *((each, 1) for each in self._earlier), *self._cuts]
        one = sample % self.batch if self.batch > 1 else None
        found = gradients_to([place for place, _ in places], stream, rows.cotangent(stream, 1, one))
        own = found[0]
        if own is None or not rows.reach_own(own, 1):
            self._refuse(
                "returns nothing of what enters it beside its attention: its residual sum stands outside of it",
                "where modules of the model return that sum, name them: blocks=[...]; else write the sum "
                "into the block",
            )
        if one is not None and own is not None and any(own[each].any() for each in range(self.batch) if each != one):
            self._refuse("mixes the samples of a batch", "explain one sample at a time")
        for (place, axis), gradient in zip(places, found, strict=True):
            if gradient is not None and rows.reach_others(gradient, axis):
                self._mixes(
                    "behind its attention" if any(place is cut for cut, _ in self._cuts) else "beside its attention"
                )

    def check_entry(self, stream: Tensor, left: Tensor) -> None:
        """Raise unless what enters the block [B, n, d] is what left the one before, token by token and alone.

        Raises:
            UnsupportedModelError: says what it is made of.
        """
        if stream.shape == left.shape and torch.equal(stream, left):
            return
        before = f"what enters {self.name} is not what left the block before"
        earlier = [each for each in self._earlier if each is not left]
        for rows in self._sides:
            own, *others = gradients_to([left, *earlier], stream, rows.cotangent(stream, 1))
            if own is None or not rows.reach_own(own, 1):
                raise UnsupportedModelError(
                    f"{before}: it is made of something else. Name the residual blocks, one behind the other: "
                    "blocks=[...]"
                )
            if rows.reach_others(own, 1):
                raise UnsupportedModelError(
                    f"{before}: tokens are mixed in between, by blocks that were passed over or by another kind of "
                    "layer. Name all residual blocks, in order, blocks=[...]; where some of them have no attention "
                    "(hybrids), no part of the model can be explained through them"
                )
            if any(each is not None and each.any() for each in others):
                raise UnsupportedModelError(
                    f"{before} alone: a connection passes it by, so that the blocks do not carry the residual stream. "
                    "Where modules of the model return the residual sum, name them: blocks=[...]"
                )

    def _mixes(self, where: str) -> None:
        self._refuse(
            f"moves information from one token to others {where} (a convolution, pooling, a shift, a state-space or "
            "linear-attention branch), which no attention map shows",
            "explain a model whose tokens meet in softmax attention alone",
        )

    def _refuse(self, what: str, remedy: str) -> None:
        raise UnsupportedModelError(f"{self.name} {what}; {remedy}")
