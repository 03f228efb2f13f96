"""From a library's model to labels, against stored attention maps and loops all the way."""

from __future__ import annotations

import pytest
import torch

from captum_ultra.segmentation import LatentTokenSegmenter
from tests.builders import CASES, Case
from tests.reference import segmentation as reference
from tests.reference.ultra import explain


@pytest.mark.parametrize("case", [case for case in CASES if case.grid], ids=lambda case: case.name)
def test_labels_are_those_of_the_reference(case: Case) -> None:
    assert case.grid is not None
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)[:1]
    patches = slice(case.prefix, case.prefix + case.grid[0] * case.grid[1])
    recording = case.record(model, inputs)
    rows = [
        explain(recording, token, case.depth, "energy", columns=patches)[0, patches]
        for token in range(patches.start, patches.stop)
    ]
    maps = torch.stack(rows).detach().unflatten(-1, case.grid)
    large = reference.enlarged(maps, (inputs.shape[2], inputs.shape[3]), "bilinear")

    found = LatentTokenSegmenter(model, score="energy", n_clusters=3).segment(inputs)
    torch.testing.assert_close(found.maps[0], maps)
    expected = reference.pixel_labels(large, reference.average_linkage(large, n_clusters=3))
    assert found.labels[0].tolist() == expected
