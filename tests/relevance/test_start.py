"""Many targets from one pass, one by one, and where one pass is not allowed: the same rows."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import ConservativeLRP, LatentTokenAttribution, LeGrad, ResidualLRP
from captum_ultra.relevance.start import Start
from tests.attr.models import small_classifier


def explained(
    method: type[Any], model: nn.Module, image: Tensor, probe: bool = True, **options: Any
) -> tuple[Any, Any]:
    """The rows, and whether all targets shared a pass."""
    shared = []

    def watched(self: Start, tokens: Tensor, of: Any = Start._shared) -> Any:
        shared.append(of(self, tokens) is not None)
        return of(self, tokens)

    with mock.patch.object(Start, "_shared", watched):
        rows = method(model, probe=probe).attribute(image, self_token="keep", output="tokens", **options)
    return rows, bool(shared) and all(shared)


@pytest.mark.parametrize("method", [LatentTokenAttribution, LeGrad, ConservativeLRP, ResidualLRP])
@pytest.mark.parametrize("token", [[3], [5, 2, 5], [[1, 1]], "all"], ids=str)
@pytest.mark.parametrize("layer", [1, 3])
def test_one_pass_for_all_targets(method: type[Any], token: Any, layer: int) -> None:
    if token == [[1, 1]]:
        token = [(1, 1), (2, 3)]
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    rows, shared = explained(method, small_classifier().double(), image, token=token, layer=layer)
    plain, not_shared = explained(method, small_classifier().double(), image, False, token=token, layer=layer)
    twice = method is LeGrad and token == [5, 2, 5]  # of which each target is a score of its own
    assert (shared, not_shared) == (not twice, False)
    torch.testing.assert_close(rows, plain, rtol=1e-12, atol=1e-14)


def test_scores_that_compare_tokens_go_the_dense_way() -> None:
    image, model = torch.rand(1, 3, 16, 16, dtype=torch.float64), small_classifier().double()

    def against_the_mean(latents: Tensor) -> Tensor:
        return (latents * latents.mean(1, keepdim=True)).sum(-1)

    options: dict[str, Any] = {"token": [2, 7], "layer": 3, "score": against_the_mean}
    rows, shared = explained(LatentTokenAttribution, model, image, **options)
    one, _ = explained(LatentTokenAttribution, model, image, **{**options, "token": 7})
    assert not shared
    torch.testing.assert_close(rows[:, 1], one, rtol=1e-12, atol=1e-14)


def test_explicit_attention_goes_the_dense_way() -> None:
    from tests.builders import case_named

    case = case_named("hf-LlamaForCausalLM-eager")
    _, shared = explained(LatentTokenAttribution, case.model(torch.float64), case.inputs(), token=[2, 4], layer=2)
    assert not shared
