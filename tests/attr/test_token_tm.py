"""TokenTM of latent tokens, its arguments, and what it must not build."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from captum_ultra import LatentTokenAttribution, TokenTM, UnsupportedModelError
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.attr.test_class_methods import TRANSFORMING, told
from tests.builders.case import stir
from tests.builders.classifiers import Classifier
from tests.reference import class_methods
from tests.reference.recording import Recording
from tests.reference.ultra import scalar


def small(**sizes: Any) -> ViTClassifier:
    torch.manual_seed(0)
    model = ViTClassifier(ViTClassifierConfig(**{"image_size": 16, "dim": 32, "depth": 3, "heads": 4, **sizes}))
    return stir(model).eval()  # type: ignore[return-value]


def up_to(recording: Recording, layer: int) -> Recording:
    return Recording(recording.latents[: layer + 1], recording.maps[:layer])


@pytest.mark.parametrize("score", ["sum", "energy"])
@pytest.mark.parametrize("classifier", TRANSFORMING[:6], ids=lambda each: each.name)
def test_latent_tokens_equal_every_matrix_written_out(classifier: Classifier, score: str) -> None:
    run = told(classifier)
    tokens, layer = [0, 5, 16], 2
    found = TokenTM(run.model).attribute(
        run.inputs, token=tokens, layer=layer, score=score, output="tokens", self_token="keep"
    )
    part = up_to(run.recording, layer)
    for index, token in enumerate(tokens):
        value = scalar(run.recording.latents[layer], token, score, normalize=True)
        want = class_methods.token_tm(
            part, value, [token], lambda block, stream: classifier.parts(run.model, block, stream)  # type: ignore[misc]
        )  # fmt: skip
        torch.testing.assert_close(found[:, index], want.detach(), rtol=1e-8, atol=1e-12)


def test_many_latent_tokens_equal_one_after_another() -> None:
    model, x = small(), torch.randn(2, 3, 16, 16)
    together = TokenTM(model).attribute(x, token="patches", layer=3, output="patches")
    alone = [TokenTM(model).attribute(x, token=token, layer=3, output="patches") for token in range(1, 17)]
    torch.testing.assert_close(together, torch.stack(alone, 1), rtol=1e-4, atol=1e-6)
    by_target = TokenTM(model).attribute(x, target=torch.tensor([3, 7]), layer=3, output="patches")
    torch.testing.assert_close(by_target, torch.stack([together[0, 2], together[1, 6]]), rtol=1e-4, atol=1e-6)


def test_latent_tokens_without_weights_are_those_of_ultra() -> None:
    model, x = small(), torch.randn(2, 3, 16, 16)
    plain = TokenTM(model).attribute(x, token=(1, 2), layer=2, length=False, necc=False)
    ultra = LatentTokenAttribution(model).attribute(x, token=(1, 2), layer=2, interpolation="bilinear")
    torch.testing.assert_close(plain, ultra)


class LargestOfTokens(TorchDispatchMode):
    """The most numbers in any tensor that an operation makes and that holds all of a prime number of tokens."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.numbers = tokens, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor) and self.tokens in each.shape:
                self.numbers = max(self.numbers, each.numel())
        return result


def test_no_tensor_of_all_heads_and_channels_is_built() -> None:
    model = small(dim=64, heads=16, mlp_ratio=1.0)
    n = 17
    with LargestOfTokens(n) as seen:
        TokenTM(model).attribute(torch.randn(1, 3, 16, 16), target=0)
    assert seen.numbers < 16 * n * 64 / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"necc_scale": "tokens"}, "necc_scale='tokens'.*'one', 'n'"),
        ({"first_blocks": 4}, "first_blocks=4: the model has 3 blocks"),
        ({"first_blocks": 1, "aggregation": False}, "needs aggregation=True"),
        ({"token": 1, "aggregation": False}, "for latents choose a layer"),
        ({"token": 99}, "token 99 does not exist"),
    ],
)
def test_bad_arguments_say_what_is_possible(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenTM(small()).attribute(torch.randn(1, 3, 16, 16), **options)


def test_choices_of_a_class_are_refused_for_latent_tokens() -> None:
    with pytest.raises(TypeError, match="'class_score' is an argument of explanations of a class"):
        TokenTM(small()).attribute(torch.randn(1, 3, 16, 16), token=1, class_score="logit")


def test_blocks_that_are_not_pre_norm_are_refused_by_name() -> None:
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=False)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    with pytest.raises(UnsupportedModelError, match=r"block 0 \(TransformerEncoderLayer\).*GenericAttention"):
        TokenTM(model).attribute(torch.randn(1, 5, 16), token=1, layer=1)
