"""Behind a LayerNorm the plain scores are constants: the zeros must not come in silence."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from captum_ultra import AttentionRollout, ConservativeLRP, LatentTokenAttribution
from tests.builders import EXAMPLES, Case, case_named
from tests.builders.case import CHANNELS
from tests.builders.torch_models import torch_encoder
from tests.builders.transformers_models import build

_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "vocab_size": 50}

UNTRAINED: dict[str, Callable[[], nn.Module]] = {
    "Bert": lambda: build("Bert", "Model", "sdpa", **_BERT),
    "DebertaV2": lambda: build("DebertaV2", "Model", "eager", **_BERT),
    "torch": lambda: torch_encoder(norm_first=False),
    "torch-sequence-first": lambda: torch_encoder(norm_first=False, batch_first=False),
}


def explain_by(model: nn.Module, score: object) -> torch.Tensor:
    torch.manual_seed(0)
    inputs = torch.randint(3, 50, (2, 7)) if hasattr(model, "config") else torch.randn(2, 7, CHANNELS)
    row: torch.Tensor = LatentTokenAttribution(model.eval()).attribute(inputs, 1, score=score, self_token="zero")  # type: ignore[arg-type]
    return row


@pytest.mark.filterwarnings("ignore:the map is zero")
@pytest.mark.parametrize("name", UNTRAINED)
def test_a_constant_score_is_named_and_a_vector_explains(name: str) -> None:
    for score in ("sum", "energy"):
        with pytest.warns(UserWarning, match=r"(?s)constant at layer.*post-norm.*LayerNorm.*vector score"):
            row = explain_by(UNTRAINED[name](), score)
        assert row.max() < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = explain_by(UNTRAINED[name](), torch.randn(CHANNELS))
    assert row.max() > 1e-4


@pytest.mark.parametrize("case", [case for case in EXAMPLES if "GptOss" not in case.name], ids=lambda case: case.name)
def test_nothing_else_warns(case: Case) -> None:
    """Weights of a LayerNorm that differ between channels leave the scores free, as in trained models."""
    model, inputs = case.model(), case.inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for score in ("sum", "energy"):
            LatentTokenAttribution(model).attribute(inputs, token=1, score=score)


def test_the_warning_points_at_the_callers_line() -> None:
    model, inputs = torch_encoder(norm_first=False).eval(), torch.randn(1, 5, CHANNELS)
    with pytest.warns(UserWarning, match="post-norm") as caught:
        LatentTokenAttribution(model).attribute(inputs)
    assert caught[0].filename == __file__


def test_methods_without_gradients_and_linear_maps_have_no_constant_scores() -> None:
    model, inputs = torch_encoder(norm_first=False).eval(), torch.randn(1, 5, CHANNELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AttentionRollout(model).attribute(inputs, token=1, score="energy").any()
        assert ConservativeLRP(model).attribute(inputs, token=1, score="energy").any()


def test_the_embedding_of_a_post_norm_model_is_no_cause_for_a_warning() -> None:
    case = case_named("hf-BertModel-sdpa")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LatentTokenAttribution(case.model()).attribute(case.inputs(), layer=0, self_token="keep")
