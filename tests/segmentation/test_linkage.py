"""Distances and trees of maps, against a naive agglomeration and against scipy's own cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster
from scipy.spatial.distance import pdist, squareform

from captum_ultra.errors import MissingExtraError
from captum_ultra.segmentation.linkage import LinkageTree, cosine_distances
from tests.reference import segmentation as reference


def tree_of(maps: torch.Tensor) -> LinkageTree:
    return LinkageTree.of(cosine_distances(maps))


def as_sets(labels: torch.Tensor) -> list[set[int]]:
    return [set((labels == name).nonzero().flatten().tolist()) for name in range(int(labels.max()) + 1)]


def test_distances_are_those_of_scipy() -> None:
    maps = torch.randn(9, 20, dtype=torch.float64)
    np.testing.assert_allclose(cosine_distances(maps), squareform(pdist(maps.numpy(), "cosine")), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_distances_do_not_depend_on_the_scale(scale: float) -> None:
    maps = torch.rand(5, 7, dtype=torch.float64)
    torch.testing.assert_close(cosine_distances(maps * scale), cosine_distances(maps), rtol=0, atol=1e-12)


def test_zero_maps_are_alike_and_unlike_all_others() -> None:
    maps = torch.rand(5, 7)
    maps[[1, 3]] = 0
    distances = cosine_distances(maps)
    assert distances[1, 3] == 0 and (distances[1, [0, 2, 4]] == 1).all()
    assert tree_of(maps).cut(threshold=0.999).tolist() == [0, 1, 0, 1, 0]


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        cosine_distances(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 10), width=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_cuts_are_those_of_a_naive_agglomeration(tokens: int, width: int, seed: int) -> None:
    maps = torch.rand(tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tree = tree_of(maps)
    assert tree.leaves == tokens
    for count in range(1, tokens + 1):
        assert as_sets(tree.cut(n_clusters=count)) == reference.average_linkage(maps, n_clusters=count)
    for threshold in (0.0, 0.05, 0.2, 0.4, 1.0):
        assert as_sets(tree.cut(threshold=threshold)) == reference.average_linkage(maps, threshold=threshold)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0, 1))
def test_a_distance_cuts_as_scipy_does(seed: int, threshold: float) -> None:
    tree = tree_of(torch.rand(40, 8, generator=torch.Generator().manual_seed(seed)))
    theirs = fcluster(tree.merges, threshold, criterion="distance")
    ours = tree.cut(threshold=threshold).tolist()
    assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs))


def test_k_is_exact_where_all_distances_are_equal() -> None:
    tree = tree_of(torch.eye(6))
    assert [int(tree.cut(n_clusters=count).max()) + 1 for count in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    same = tree_of(torch.ones(6, 4))
    assert [int(same.cut(n_clusters=count).max()) + 1 for count in range(1, 7)] == [1, 2, 3, 4, 5, 6]


def test_clusters_are_numbered_by_their_first_map() -> None:
    maps = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.1]])
    assert tree_of(maps).cut(n_clusters=2).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("arguments", [{}, {"n_clusters": 2, "threshold": 0.3}, {"n_clusters": 0}, {"n_clusters": 5}])
def test_impossible_cuts(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="n_clusters"):
        tree_of(torch.rand(4, 3)).cut(**arguments)  # type: ignore[arg-type]


def test_scipy_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_ultra.segmentation.linkage.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"captum_ultra\[segmentation\]"):
        tree_of(torch.rand(3, 2))
