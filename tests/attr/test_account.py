"""Conservative and residual-weighted relevance of latent tokens against the account written out, in float64."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from captum_ultra import ConservativeLRP, ResidualLRP
from tests.builders import FAMILIES, Case
from tests.builders.case import CHANNELS
from tests.reference.account import Account, account
from tests.reference.account_models import NETWORKS, case_of, exact

LAYERS, TOKENS = [3, 1], [0, 4, 8]
WEIGHTS = torch.randn(CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

# A score, whether of the normalised latent z, and the constant direction that it comes to.
Scored = tuple[str | Tensor, bool, Callable[[Tensor], Tensor]]
ENERGY: Scored = ("energy", True, lambda z: z / z.square().sum())
SUM: Scored = ("sum", True, lambda z: torch.ones_like(z) / z.norm())
VECTOR: Scored = (WEIGHTS, True, lambda z: WEIGHTS / z.norm())
UNSCALED: Scored = ("energy", False, lambda z: z)

# Attention, gates, gamma, score and reading; every pair of attention, gates and gamma is among them.
CHOICES: list[tuple[str, str, float, Scored, str]] = [
    ("constant", "gradient", 0.0, ENERGY, "norm"),
    ("constant", "constant", 3.0, SUM, "signed"),
    ("constant", "halves", 3.0, ENERGY, "positive"),
    ("halves", "gradient", 3.0, VECTOR, "absolute"),
    ("halves", "constant", 0.0, UNSCALED, "signed"),
    ("halves", "halves", 0.5, SUM, "signed"),
    ("constant", "constant", 0.0, VECTOR, "signed"),
    ("constant", "halves", 0.0, ENERGY, "signed"),
]


def read(found: Account, x0: Tensor, reading: str) -> Tensor:
    """Contributions [n, d] as a row [n]."""
    signed = found.contributions.sum(1)
    if reading == "norm":
        return (found.contributions / x0).norm(dim=1) * x0.norm(dim=1)
    return {"signed": signed, "positive": signed.clamp(min=0), "absolute": signed.abs()}[reading]


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_account_written_out(name: str) -> None:
    """Several tokens of two layers from one run; what the tokens and the constants contribute is all that there is."""
    case = case_of(name)
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    network = NETWORKS[name](model)
    with exact() if "Llama" in name else nullcontext():
        latents = [each.detach() for each in case.record(model, inputs).latents]
        for attention, gates, gamma, (score, normalize, direction), reading in CHOICES:
            rules = {"attention": attention, "gates": gates}
            found = (ResidualLRP if gamma else ConservativeLRP)(model).attribute(
                inputs, token=TOKENS, layer=LAYERS, score=score, normalize=normalize, self_token="keep",
                output="tokens", reading=reading, **rules, **({"gamma": gamma} if gamma else {}),
            )  # fmt: skip
            for layer, rows in zip(LAYERS, found, strict=True):
                for index, token in enumerate(TOKENS):
                    row, z, x0 = rows[index % 2, index], latents[layer][index % 2, token], latents[0][index % 2]
                    expected = account(network, x0, layer, token, direction(z), gamma=gamma, **rules)
                    torch.testing.assert_close(row, read(expected, x0, reading), rtol=1e-9, atol=1e-11)
                    if reading == "signed" and attention == "constant":
                        balance = row.sum().item() + expected.constants
                        assert balance == pytest.approx(expected.value, rel=1e-9, abs=1e-9)


def test_without_gamma_residual_relevance_is_the_conservative_one() -> None:
    case = case_of("hf-CLIPVisionModel-sdpa")
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    plain = ResidualLRP(model).attribute(inputs, token="all", gamma=0.0)
    assert torch.equal(plain, ConservativeLRP(model).attribute(inputs, token="all", gates="constant"))
    assert not torch.allclose(plain, ResidualLRP(model).attribute(inputs, token="all"))


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_contributions_add_up_without_biases(case: Case) -> None:
    """On every model: what the tokens contribute is all of the explained scalar."""
    model = case.model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name.rpartition(".")[2]:
                parameter.zero_()
    rows = ResidualLRP(model).attribute(
        case.inputs(), token=[0, case.tokens - 1], layer=[1, case.depth], score="energy", output="tokens",
        self_token="keep",
    )  # fmt: skip
    tolerance = 0.02 if "GptOss" in case.name else 1e-3  # its gated units add one to a factor
    for each in rows:
        assert each.abs().max() > 0.01
        torch.testing.assert_close(each.sum(-1), torch.ones(2, 2), rtol=0, atol=tolerance)
