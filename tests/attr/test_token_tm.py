"""TokenTM: padding is no token, and blocks of another build are refused, not measured as if they were pre-norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra import TokenTM, UnsupportedModelError
from tests.builders import case_named, stir
from tests.builders.torch_models import PlainBlock, PlainTransformer

IDS = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"necc_scale": "n"}, {"length": False}, {"aggregation": False}])
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    model, mask = case_named("hf-LlamaForCausalLM-sdpa").model(torch.float64), torch.ones_like(IDS)
    mask[0, 6:] = 0  # behind the words of a causal model, which do not see it
    tm = TokenTM(model)
    for asked in ({"token": 5, "layer": [3, 1]}, {"target": 4, "head": True}):
        head = (lambda output: output.logits[:, 5]) if asked.pop("head", False) else None
        tm.head = head
        found = tm.attribute(IDS, additional_forward_args=mask, **asked, **options)
        alone = tm.attribute(IDS[:1, :6], **asked, **options)
        whole = tm.attribute(IDS[1:], **asked, **options)
        for rows, words, other in zip(
            *(each if isinstance(each, list) else [each] for each in (found, alone, whole)), strict=True
        ):
            torch.testing.assert_close(rows[:1, :6], words, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(rows[1:], other, rtol=1e-9, atol=1e-12)
            assert not rows[0, 6:].any()


class Built(PlainBlock):
    """A block whose two parts are put together in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__(fused=True)
        self.how = how

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attend(self.first_norm(x))
        if self.how == "parallel":
            return x + attended + self.mlp(self.second_norm(x))
        if self.how == "both":
            y = x + attended
            return y + self.mlp(self.second_norm(y + x))
        if self.how == "scaled stream":
            y = torch.add(attended, x, alpha=0.5)
            return y + self.mlp(self.second_norm(y))
        if self.how == "scaled stream between":
            y = x + attended
            return torch.add(self.mlp(self.second_norm(y)), y, alpha=0.5)
        alpha = {"halved": {"alpha": 0.5}, "halved product": {}, "plain": {}}[self.how]
        attended = attended * 0.5 if self.how == "halved product" else attended
        y = torch.add(x, attended, **alpha)
        update = self.mlp(self.second_norm(y))
        return torch.add(other=update * 0.5 if self.how == "halved product" else update, input=y, **alpha)


def model_of(how: str) -> PlainTransformer:
    model = PlainTransformer(fused=True)
    model.steps = torch.nn.ModuleList([Built(how) for _ in range(3)])
    return stir(model).double().eval()  # type: ignore[return-value]


def test_the_factor_of_a_sum_is_one_of_what_is_added() -> None:
    found, expected = (TokenTM(model_of(how)).attribute(IDS, token=[1, 4]) for how in ("halved", "halved product"))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(found, TokenTM(model_of("plain")).attribute(IDS, token=[1, 4]), rtol=0.01)


@pytest.mark.parametrize(
    "how, what",
    [
        ("parallel", "runs its second part beside its attention"),
        ("both", "runs its second part beside its attention"),
        ("scaled stream", "does not add what its attention's output projection gives to the stream"),
        ("scaled stream between", "does not leave the sum of its second part and the stream"),
    ],
)
def test_other_blocks_are_refused(how: str, what: str) -> None:
    model = model_of(how)
    with pytest.raises(UnsupportedModelError, match=rf"block 0 \(Built\) {what}.*take GenericAttention"):
        TokenTM(model).attribute(IDS, token=1)
    assert TokenTM(model).attribute(IDS, token=1, length=False, necc=False).shape == (2, 9)  # which is GAE
