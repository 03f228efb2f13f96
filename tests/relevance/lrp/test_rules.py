"""Each rule against its explicit table of contributions, and the relevance that it promises to keep."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_ultra.relevance.lrp.addition import renormalised_shares
from captum_ultra.relevance.lrp.division import safe_divide
from captum_ultra.relevance.lrp.product import halved_shares, proportional_shares
from captum_ultra.relevance.lrp.weighted import bounded_shares, weighted_shares
from tests.reference import lrp as reference
from tests.relevance.lrp.propagate import input_relevance

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**16)


def randoms(seed: int, *shapes: tuple[int, ...], zeros: float = 0.0) -> list[Tensor]:
    """Normal numbers, a share of them exactly zero."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [each * (torch.rand(each.shape, generator=generator) >= zeros) for each in drawn]


def kept(parts: tuple[Tensor, ...], relevance: Tensor, denominators: Tensor) -> None:
    """The relevance of outputs that have something to share out arrives, up to what keeps divisions finite."""
    arrived, size = sum(part.sum() for part in parts), denominators.abs()
    torch.testing.assert_close(arrived, (relevance * size / (size + reference.EPSILON)).sum(), rtol=1e-8, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds, rows=sizes, inside=sizes, outside=sizes, zeros=st.sampled_from([0.0, 0.5]), apart=st.booleans()
)  # fmt: skip
def test_linear_layers_share_by_positive_products(
    seed: int, rows: int, inside: int, outside: int, zeros: float, apart: bool
) -> None:
    x, w, r = randoms(seed, (rows, inside), (outside, inside), (rows, outside), zeros=zeros)
    (found,) = weighted_shares(F.linear, w, r, x, apart=apart)
    by_hand = reference.linear_apart if apart else reference.linear
    torch.testing.assert_close(found, torch.stack([by_hand(w, *each) for each in zip(x, r, strict=True)]), **CLOSE)
    if not apart:
        kept((found,), r, (w * x[:, None]).clamp(min=0).sum(-1))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, left=st.booleans(), n=sizes, k=sizes, m=sizes)
def test_products_with_a_constant_matrix_are_linear_layers(seed: int, left: bool, n: int, k: int, m: int) -> None:
    x, w, r = randoms(seed, (n, k), (k, m), (n, m))
    expected = torch.stack([reference.linear(w.T, *each) for each in zip(x, r, strict=True)])
    if left:  # (w^T x^T)^T
        (found,) = weighted_shares(lambda x, w: w @ x, w.T, r.T, x.T.contiguous())
        found = found.T
    else:
        (found,) = weighted_shares(torch.matmul, w, r, x)
    torch.testing.assert_close(found, expected, **CLOSE)


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds, batch=st.integers(1, 3), channels=st.integers(1, 3), out=sizes, size=st.integers(1, 3),
    stride=st.integers(1, 3), padding=st.integers(0, 2), on_pixels=st.booleans(),
)  # fmt: skip
def test_convolutions_share_like_the_matrix_that_they_are(
    seed: int, batch: int, channels: int, out: int, size: int, stride: int, padding: int, on_pixels: bool
) -> None:
    x, w = randoms(seed, (batch, channels, 5, 4), (out, channels, size, size))

    def convolve(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, None, stride, padding)

    (r,) = randoms(seed + 1, tuple(convolve(x, w).shape))
    found = (bounded_shares if on_pixels else weighted_shares)(convolve, w, r, x)[0]
    units = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    matrix = convolve(units, w).flatten(1).T  # [outputs, inputs]
    expected = []
    for image, relevance in zip(x.flatten(1), r.flatten(1), strict=True):
        edges = (image.min(), image.max())
        expected.append(
            reference.bounded(matrix, image, *edges, relevance)
            if on_pixels
            else reference.linear(matrix, image, relevance)
        )
    # Where all shares are zero but for rounding, 1e-17 over 1e-9 is a share in one of them and nothing in the other.
    torch.testing.assert_close(found.flatten(1), torch.stack(expected), rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, batch=st.integers(1, 2), n=sizes, k=sizes, m=sizes, zeros=st.sampled_from([0.0, 0.4]))
def test_products_of_two_signals_share_every_term_and_halve(
    seed: int, batch: int, n: int, k: int, m: int, zeros: float
) -> None:
    x, y, r = randoms(seed, (batch, n, k), (batch, k, m), (batch, n, m), zeros=zeros)
    found = halved_shares(torch.matmul, r, x, y)
    each = [reference.product(*parts) for parts in zip(x, y, r, strict=True)]
    for got, want in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(want), **CLOSE)
    kept(found, r, x @ y)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, batch=st.integers(1, 3), n=sizes, d=sizes, zeros=st.sampled_from([0.0, 0.4]))
def test_residual_sums_share_within_each_sample(seed: int, batch: int, n: int, d: int, zeros: float) -> None:
    x, y, r = randoms(seed, *[(batch, n, d)] * 3, zeros=zeros)
    found = renormalised_shares(r, x, y, samples=0)
    each = [reference.add(*parts) for parts in zip(x, y, r, strict=True)]
    for got, want in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(want), **CLOSE)
    swapped = renormalised_shares(r.transpose(0, 1), x.transpose(0, 1), y.transpose(0, 1), samples=1)
    torch.testing.assert_close(swapped[0].transpose(0, 1), found[0], **CLOSE)
    alone = renormalised_shares(r[:1], x[:1], y[:1], samples=None)
    torch.testing.assert_close(alone[1], found[1][:1], **CLOSE)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, n=sizes, d=sizes, mean=st.booleans())
def test_pooling_gives_each_entry_its_share(seed: int, n: int, d: int, mean: bool) -> None:
    x, r = randoms(seed, (n, d), (d,))
    (found,) = proportional_shares(lambda x: x.mean(0) if mean else x.sum(0), r, x)
    if mean:  # the mean is the sum of x / n
        expected = [reference.total(x[:, c] / n, r[c]) for c in range(d)]
    else:
        expected = [reference.total(x[:, c], r[c]) for c in range(d)]
    torch.testing.assert_close(found, torch.stack(expected, dim=1), **CLOSE)


def test_divisions_by_zero_and_near_zero_stay_finite() -> None:
    found = safe_divide(torch.tensor([1.0, 1.0, 0.0, 2.0]), torch.tensor([0.0, 1e-30, 0.0, -4.0]))
    assert found.tolist() == pytest.approx([0.0, 1e9, 0.0, -0.5])


class Layers(nn.Module):
    """No biases, and a unit without positive contributions is silent: relevance has nowhere to get lost."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 40, bias=False), nn.Linear(40, 6, bias=False)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.second(F.relu(self.first(F.layer_norm(x, (6,)))))
        return self.head(x.mean(1))


def test_relevance_is_kept_through_a_model_without_biases() -> None:
    torch.manual_seed(1)
    model, x = Layers().double(), torch.randn(3, 5, 6, dtype=torch.float64)
    relevance = input_relevance(model, model, x, lambda logits: logits[:, 1])
    torch.testing.assert_close(relevance.sum((1, 2)), torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=1e-6)
