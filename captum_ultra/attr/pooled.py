"""Relevance of a class that is read at many patches: what attention brings there, without what they hold themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.questions import ClassQuestion
from captum_ultra.relevance import Explained, Flow, pull_back

__all__ = ["patches_read", "pull_back_attended"]


@dataclass(frozen=True, eq=False)
class _BesideOwn(Flow):
    """A flow of what has passed an attention; what has not, meets every attention beside it and is carried by no row.

    A sum of both would round the former away: it can be a millionth of the latter.

    Attributes:
        own: block -> [T, B, n], what has come down to its attention by residual connections alone.
    """

    own: Mapping[int, Tensor] = field(default_factory=dict)
    _passed: dict[int, Tensor] = field(default_factory=dict)

    def arriving(self, block: int, rows: Tensor) -> Tensor:
        self._passed[block] = super().arriving(block, rows)
        return self._passed[block] + self.own[block].to(rows)

    def below(self, block: int, above: Tensor, added: Tensor) -> Tensor:
        return super().below(block, self._passed.pop(block), added)


def pull_back_attended(
    asked: Asked, explained: Explained, flows: Flow | Sequence[Flow], to: int, lengths: Tensor | None = None
) -> Tensor:
    """Rows [B, T, n] of a flow with residual connections, as :func:`captum_ultra.relevance.pull_back` finds them.

    Only of a class that is read at several tokens, patches among them, these keep nothing for themselves: the product
    of all residual connections, which is the same for every class and larger than the rest by orders of magnitude, is
    left out of their entries, and put down as the question's ``kept``.

    Args:
        asked: what is explained.
        explained: its targets.
        flows: of all targets, or one for each.
        to: the block.
        lengths: [B, n], which rows are multiplied by in the end.
    """
    start = explained.rows()
    left_out = patches_read(asked, explained)
    if left_out is None and isinstance(flows, Flow):
        return _times(pull_back(explained, flows, to), lengths)
    chunk = explained.chunk or explained.automatic_chunk()
    found, owned = [], []
    for part in torch.arange(start.shape[1]).split(chunk if isinstance(flows, Flow) else 1):
        flow = flows if isinstance(flows, Flow) else flows[int(part)]
        of_part = replace(explained, chosen=explained.chosen[:, part], start=start[:, part], chunk=len(part))
        if left_out is None:
            found.append(pull_back(of_part, flow, to))
        else:
            own, beside = _own(of_part, flow, to)
            found.append(pull_back(replace(of_part, start=torch.zeros_like(own)), beside, to))
            owned.append(own)
    rows = _times(torch.cat(found, 1), lengths)
    if left_out is None:
        return rows
    own = _times(torch.cat(owned, 1), lengths)
    assert isinstance(asked.question, ClassQuestion)
    asked.question.kept = own * left_out
    return rows + own * ~left_out


def patches_read(asked: Asked, explained: Explained) -> Tensor | None:
    """Of a class, the patches where it is read [B, T, n], if that is at several tokens; None where it nowhere is."""
    if not isinstance(asked.question, ClassQuestion):
        return None
    start = explained.rows()
    patches = torch.zeros(start.shape[-1], dtype=torch.bool, device=start.device)
    patches[asked.runs.layout.patches] = True
    read = start > 0
    found = read & patches & (read.sum(-1, keepdim=True) > 1)
    return found if found.any() else None


def _own(explained: Explained, flow: Flow, to: int) -> tuple[Tensor, Flow]:
    """What residual connections alone bring down to a block [B, T, n], and the flow of all else beside it."""
    own, at = explained.rows(), {}
    for block in reversed(range(to, explained.layer)):
        own = own * flow.tokens[block][:, None].to(own) if block in flow.tokens else own
        at[block] = own.transpose(0, 1)
    return own, _BesideOwn(flow.rule, flow.residual, flow.cells, flow.keys, flow.tokens, at)


def _times(rows: Tensor, lengths: Tensor | None) -> Tensor:
    return rows if lengths is None else rows * lengths[:, None].to(rows)
