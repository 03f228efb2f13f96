"""The eager-softmax operation against the explicit loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra import UnsupportedModelError
from captum_ultra.relevance import gradient_weighted
from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.passage import Passage
from captum_ultra.relevance.probabilities import relevance_probabilities
from tests.reference.attention import layer_backward
from tests.relevance.test_attention import problem


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 3), heads=st.integers(1, 4), n=st.integers(1, 8),
    targets=st.integers(1, 4), sink=st.booleans(),
)  # fmt: skip
def test_equals_the_explicit_loop(seed: int, batch: int, heads: int, n: int, targets: int, sink: bool) -> None:
    q, k, v, cotangents, rows = problem(seed, batch, heads, 1, n, 4, 3, targets)
    leaves = [each.detach().requires_grad_() for each in (q, k, v, torch.zeros_like(rows[0]))]
    scores = leaves[0] @ leaves[1].transpose(-2, -1) / 2
    if sink:  # far below every score, so that the explicit loop without it is right
        scores = torch.cat([scores, torch.full_like(scores[..., :1], -1e4)], -1)
    options = Passage(gradient_weighted, Ledger(), 0)
    probabilities, relevance = relevance_probabilities(scores.softmax(-1), leaves[3], options)
    outputs = (probabilities[..., :n] @ leaves[2], relevance)
    found = torch.func.vmap(lambda *seeds: torch.autograd.grad(outputs, leaves, seeds, retain_graph=True))(
        cotangents, rows
    )
    options.ledger.check_backward()
    for got, want in zip(found, layer_backward(q, k, v, cotangents, rows), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_an_extra_key_that_the_output_depends_on_is_no_sink() -> None:
    probabilities = torch.rand(1, 2, 3, 4, requires_grad=True)
    source = torch.zeros(1, 3, requires_grad=True)
    ledger = Ledger()
    followed, relevance = relevance_probabilities(probabilities, source, Passage(gradient_weighted, ledger, 7))
    torch.autograd.grad((followed.sum(), relevance), source, (torch.ones(()), torch.ones(1, 3)))
    with pytest.raises(UnsupportedModelError, match="block 7 attends to keys beside its tokens"):
        ledger.check_backward()
