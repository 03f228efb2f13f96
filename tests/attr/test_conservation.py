"""On every model: what the tokens contribute adds up to what is explained, where no bias contributes."""

from __future__ import annotations

import pytest
import torch

from captum_ultra import ResidualLRP
from tests.builders import CASES, Case

CONSTANTS_OF_THEIR_OWN = ("GptOss",)  # its gated units add one to a factor


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_contributions_add_up_without_biases(case: Case) -> None:
    model = case.model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name.rpartition(".")[2]:
                parameter.zero_()
    rows = ResidualLRP(model).attribute(
        case.inputs(), token=[0, case.tokens - 1], layer=[1, case.depth], score="energy", output="tokens",
        self_token="keep",
    )  # fmt: skip
    tolerance = 0.02 if any(name in case.name for name in CONSTANTS_OF_THEIR_OWN) else 1e-3
    for each in rows:
        assert each.abs().max() > 0.01
        torch.testing.assert_close(each.sum(-1), torch.ones(2, 2), rtol=0, atol=tolerance)
