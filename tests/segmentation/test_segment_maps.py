"""From maps to labels, against loops over tokens and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from captum_ultra.segmentation import Segmentation, SegmentationRule, gt_unique, segment_maps
from captum_ultra.segmentation.enlarging import enlarge, isometric
from captum_ultra.segmentation.pixels import vote
from tests.reference import segmentation as reference

MODES = ("bilinear", "bicubic", "nearest")


def random_maps(batch: int, tokens: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, tokens, height, width, generator=generator, dtype=torch.float64) ** 3


def expected(maps: torch.Tensor, rule: SegmentationRule, **cut: Any) -> torch.Tensor:
    """Labels [H, W] of one image's maps [T, h, w] by the reference."""
    size = rule.size or (maps.shape[1], maps.shape[2])
    large = reference.enlarged(maps, size, rule.interpolation)
    compared = large if rule.cluster_on == "image" else maps
    if rule.scale_maps:
        compared = torch.stack([reference.scaled(each) for each in compared])
        grid = torch.stack([reference.scaled(each) for each in maps])
        large = compared if rule.cluster_on == "image" else reference.enlarged(grid, size, rule.interpolation)
    labels = reference.pixel_labels(large, reference.average_linkage(compared, **cut))
    if rule.smooth:
        return torch.tensor(reference.majority(labels, rule.smooth))
    return torch.tensor(labels)


def renumbered(labels: torch.Tensor) -> torch.Tensor:
    names: dict[int, int] = {}
    flat = [names.setdefault(label, len(names)) for label in labels.flatten().tolist()]
    return torch.tensor(flat).view(labels.shape)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 7), st.integers(2, 4), st.integers(2, 5)),
    factor=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    mode=st.sampled_from(MODES),
    cluster_on=st.sampled_from(("grid", "image")),
    scale_maps=st.booleans(),
    smooth=st.sampled_from((0, 3)),
    cut=st.one_of(st.integers(1, 2).map(lambda k: {"n_clusters": k}), st.floats(0, 1).map(lambda z: {"threshold": z})),
    seed=st.integers(0, 10**6),
)
@example((3, 4, 5), (1, 1), "bilinear", "grid", False, 3, {"threshold": 0.0}, 3)  # a draw in the vote
def test_labels_are_those_of_the_loops(
    shape: tuple[int, int, int], factor: tuple[int, int], mode: str, cluster_on: str, scale_maps: bool, smooth: int,
    cut: dict[str, Any], seed: int,
) -> None:  # fmt: skip
    tokens, height, width = shape
    maps = random_maps(1, tokens, height, width, seed)
    rule = SegmentationRule((height * factor[0], width * factor[1]), cluster_on, mode, scale_maps, smooth)
    found = segment_maps(maps, **cut, rule=rule)
    assert found.dtype == torch.int64
    torch.testing.assert_close(found[0], renumbered(expected(maps[0], rule, **cut)))


def test_maps_of_images_need_no_rule() -> None:
    maps = random_maps(2, 6, 5, 4)
    found = segment_maps(maps, n_clusters=3)
    for labels, each in zip(found, maps, strict=True):
        torch.testing.assert_close(labels, expected(each, SegmentationRule(), n_clusters=3))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new"), [((3, 4), (12, 20)), ((5, 5), (7, 13)), ((6, 6), (4, 6))])
def test_isometric_maps_have_the_inner_products_of_the_enlarged(
    mode: str, old: tuple[int, int], new: tuple[int, int]
) -> None:
    maps = torch.randn(5, *old, dtype=torch.float64)
    large, small = enlarge(maps, new, mode).flatten(1), isometric(maps, new, mode).flatten(1)
    assert small.shape[1] <= maps[0].numel()
    torch.testing.assert_close(small @ small.T, large @ large.T, rtol=1e-10, atol=1e-10)


def test_threshold_is_zeta_of_the_paper_by_default() -> None:
    maps = random_maps(1, 8, 4, 4)
    torch.testing.assert_close(segment_maps(maps), segment_maps(maps, threshold=0.4))


def test_one_k_an_image_and_batch_equals_loop() -> None:
    maps = random_maps(3, 8, 4, 4)
    for counts in ([1, 3, 5], torch.tensor([1, 3, 5]), (1, 3, 5)):
        found = segment_maps(maps, n_clusters=counts)
        for labels, each, count in zip(found, maps, (1, 3, 5), strict=True):
            torch.testing.assert_close(labels, segment_maps(each[None], n_clusters=count)[0])


def test_labels_are_contiguous_from_zero_in_the_order_of_the_first_pixel() -> None:
    for labels in segment_maps(random_maps(20, 9, 6, 5), n_clusters=6):
        torch.testing.assert_close(labels, renumbered(labels))


def test_the_order_of_the_tokens_does_not_matter() -> None:
    maps = random_maps(1, 12, 5, 5)
    shuffled = maps[:, torch.randperm(12)]
    torch.testing.assert_close(segment_maps(maps, n_clusters=4), segment_maps(shuffled, n_clusters=4))


def test_planted_regions_are_found() -> None:
    truth = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 1], [2, 2, 2, 1]])
    maps = F.one_hot(truth.flatten()).T[truth.flatten()].view(1, 16, 4, 4).double()
    noisy = maps + 0.2 * torch.rand(maps.shape, dtype=torch.float64)
    torch.testing.assert_close(segment_maps(noisy, n_clusters=3)[0], truth)
    torch.testing.assert_close(segment_maps(noisy, threshold=0.4)[0], truth)


def test_zero_maps_and_constant_sums() -> None:
    assert not segment_maps(torch.zeros(1, 4, 3, 3), n_clusters=2).any()
    assert not segment_maps(torch.ones(1, 1, 3, 3)).any()
    maps = random_maps(1, 6, 4, 4)
    maps[0, 2] = 0
    found = Segmentation.of(maps, n_clusters=2)
    assert found.token_labels[0].bincount().tolist().count(1) == 1, "the zero map stays alone"


def test_a_record_holds_what_it_says() -> None:
    maps = random_maps(2, 9, 3, 3).float()
    found = Segmentation.of(maps, n_clusters=[2, 4], rule=SegmentationRule(size=(9, 6)))
    assert found.labels.shape == found.scores.shape == (2, 9, 6)
    assert [len(each) for each in found.cluster_maps] == [2, 4]
    assert found.scores.dtype == torch.float32 and found.token_labels.shape == (2, 9)
    for labels, scores, cluster_maps in zip(found.labels, found.scores, found.cluster_maps, strict=True):
        torch.testing.assert_close(scores, cluster_maps.amax(0))
        torch.testing.assert_close(cluster_maps.gather(0, labels[None])[0], cluster_maps.amax(0))
        assert cluster_maps.min() == 0 and cluster_maps.max() == 1
    for tokens, each, large in zip(found.token_labels, maps, found.cluster_maps, strict=True):
        for name in tokens.unique():
            total = enlarge(each[tokens == name].sum(0, keepdim=True), (9, 6), "bilinear")[0]
            torch.testing.assert_close(reference.scaled(total), large[name])


def test_another_cut_is_as_good_as_a_new_start() -> None:
    maps = random_maps(2, 9, 3, 3)
    found = Segmentation.of(maps, n_clusters=2)
    for cut in ({"n_clusters": 5}, {"n_clusters": [1, 3]}, {"threshold": 0.3}, {}):
        again = found.cut(**cut)
        torch.testing.assert_close(again.labels, segment_maps(maps, **cut))
        assert again.trees is found.trees


def test_tokens_that_share_maps_count_each() -> None:
    maps = random_maps(2, 5, 4, 4)
    assigned = torch.tensor([[0, 0, 1, 2, 3, 4, 4, 4], [4, 3, 2, 1, 0, 0, 3, 3]])
    every = torch.stack([each[tokens] for each, tokens in zip(maps, assigned, strict=True)])
    for cut in ({"n_clusters": 3}, {"threshold": 0.3}):
        shared, whole = Segmentation.of(maps, assigned=assigned, **cut), Segmentation.of(every, **cut)
        torch.testing.assert_close(shared.labels, whole.labels)
        torch.testing.assert_close(shared.scores, whole.scores)
        torch.testing.assert_close(shared.token_labels, whole.token_labels)
        torch.testing.assert_close(shared.cut(n_clusters=2).labels, whole.cut(n_clusters=2).labels)


@pytest.mark.parametrize(
    "assigned", [torch.zeros(2, 5, dtype=torch.int32), torch.zeros(5).long(), torch.zeros(2, 9).long()]
)
def test_bad_assignments(assigned: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="assigned"):
        Segmentation.of(random_maps(2, 5, 4, 4), assigned=assigned)


def test_save_and_load(tmp_path: Path) -> None:
    rule = SegmentationRule(size=(8, 8), cluster_on="grid", scale_maps=True, smooth=3)
    assigned = torch.tensor([[0, 1, 2, 3, 4, 5, 5], [5, 4, 3, 2, 2, 1, 0]])
    found = Segmentation.of(random_maps(2, 6, 4, 4).float(), n_clusters=[2, 3], rule=rule, assigned=assigned)
    found.save(tmp_path / "new" / "found.safetensors")
    loaded = Segmentation.load(tmp_path / "new" / "found.safetensors")
    assert loaded.rule == found.rule and loaded.made_by == found.made_by
    for name in ("labels", "scores", "token_labels", "maps", "assigned"):
        torch.testing.assert_close(getattr(loaded, name), getattr(found, name), rtol=0, atol=0)
    torch.testing.assert_close(loaded.cut(threshold=0.2).labels, found.cut(threshold=0.2).labels)


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        Segmentation.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not a segmentation")
    with pytest.raises(ValueError, match="cannot be read"):
        Segmentation.load(tmp_path / "text")
    save_file({"maps": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="not a file of"):
        Segmentation.load(tmp_path / "other")


def test_the_oracle_is_called_one() -> None:
    target = torch.tensor([[[0, 0, 255]], [[3, 4, 9]], [[255, 255, 255]]])
    counts = gt_unique(target)
    assert counts == (1, 3, 1) and gt_unique(target, ignore_index=None) == (2, 3, 1)
    maps = random_maps(3, 5, 3, 3)
    assert "oracle" in str(Segmentation.of(maps, n_clusters=counts).made_by)
    assert "oracle" not in str(Segmentation.of(maps, n_clusters=list(counts)).made_by)
    assert str(Segmentation.of(maps, n_clusters=2).made_by) == "k = 2"
    assert str(Segmentation.of(maps).made_by) == "cut at distance 0.4"
    with pytest.raises(TypeError, match="integer"):
        gt_unique(target.float())
    with pytest.raises(ValueError, match=r"\[B, H, W\]"):
        gt_unique(target[0])


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.sampled_from((3, 5)), st.integers(0, 10**6))
def test_votes_are_those_of_the_loops(shape: tuple[int, int], side: int, seed: int) -> None:
    labels = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(seed))
    assert vote(labels, side).tolist() == reference.majority(labels.tolist(), side)


@pytest.mark.parametrize(
    ("maps", "arguments", "error", "words"),
    [
        (None, {"n_clusters": 2, "threshold": 0.4}, ValueError, "not both"),
        (None, {"n_clusters": 0}, ValueError, "at least one"),
        (None, {"n_clusters": 5}, ValueError, "at most 4"),
        (None, {"n_clusters": [2, 5]}, ValueError, "at most 4"),
        (None, {"n_clusters": [2, 2, 2]}, ValueError, "3 numbers for 2 images"),
        (None, {"n_clusters": 2.0}, TypeError, "integer"),
        (None, {"n_clusters": "gt"}, TypeError, "integer"),
        (None, {"threshold": -0.1}, ValueError, "no distance"),
        (None, {"threshold": float("nan")}, ValueError, "no distance"),
        (torch.rand(4, 3, 3), {}, ValueError, r"maps\[None\]"),
        (torch.zeros(0, 4, 3, 3), {}, ValueError, r"\[B, T, H, W\]"),
        (torch.ones(1, 4, 3, 3, dtype=torch.long), {}, TypeError, "floating point"),
        ([[1.0]], {}, TypeError, "tensor"),
        (torch.full((1, 4, 3, 3), float("inf")), {}, ValueError, "not finite"),
    ],
)
def test_bad_arguments(maps: Any, arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        segment_maps(random_maps(2, 4, 3, 3) if maps is None else maps, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"cluster_on": "pixels"}, {"interpolation": "cubic"}, {"size": (0, 4)}, {"smooth": 2}, {"smooth": -1}]
)
def test_bad_rules(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SegmentationRule(**arguments)
