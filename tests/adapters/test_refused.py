"""Models that cannot be explained token by token are refused by name, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from tests.builders import case_named
from tests.builders.torch_models import PlainBlock, PlainTransformer
from tests.builders.transformers_models import build

IMAGE, IDS = (1, 3, 64, 64), (1, 9)
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
_BART = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "vocab_size": 60,
}  # fmt: skip


def timm_model(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, **settings)

    return make


def hf_model(family: str, head: str = "Model", attention: str = "eager", **settings: Any) -> Callable[[], nn.Module]:
    return lambda: build(family, head, attention, **settings)


GLOBAL = "global attention"
REFUSED: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], str, str]] = [
    (
        "timm-swin",
        timm_model(
            "swin_tiny_patch4_window7_224", img_size=64, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4
        ),
        IMAGE, r"SwinTransformerStage carries a tensor of shape \(1, 16, 16, 16\)", "Where a part of the model has one",
    ),
    ("timm-hiera", timm_model("hiera_tiny_224", img_size=64, embed_dim=16, stages=(1, 1, 1, 1)), IMAGE,
     "HieraBlock.* attends within queries", GLOBAL),
    ("timm-xcit", timm_model("xcit_nano_12_p16_224", img_size=64, embed_dim=32, depth=2, num_heads=2), IMAGE,
     "XCABlock.* moves information .* to make its scores", "softmax attention alone"),
    ("timm-cait", timm_model("cait_xxs24_224", img_size=64, embed_dim=32, depth=2, num_heads=2), IMAGE,
     "LayerScaleBlock.* does not multiply the values", "nothing stands between"),
    ("timm-sam", timm_model("samvit_base_patch16", img_size=64, embed_dim=32, depth=2, num_heads=2), IMAGE,
     "Block carries a tensor of shape", "residual stream"),
    ("timm-resnet", timm_model("resnet10t"), IMAGE, "ResNet ran no softmax attention.*convolutional",
     "Explain a transformer"),
    ("hf-Swin", hf_model("Swin", image_size=64, embed_dim=16, num_heads=(1, 2), depths=(1, 1), window_size=4),
     IMAGE, "SwinStage.* merge, pool or drop tokens", "Where a part of the model keeps its tokens"),
    ("hf-Hiera", hf_model("Hiera", image_size=(64, 64), embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)),
     IMAGE, "HieraLayer.*not over all tokens", "attend over all tokens"),
    ("hf-T5", hf_model("T5", d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4, vocab_size=50), IDS,
     "T5Model is an encoder-decoder.*cross-attention", r"model\.get_encoder\(\)"),
    ("hf-Bart", hf_model("Bart", **_BART), IDS, "BartModel is an encoder-decoder.*cross-attention",
     r"model\.get_encoder\(\)"),
    ("hf-BartGeneration", hf_model("Bart", "ForConditionalGeneration", **_BART), IDS,
     "is an encoder-decoder.*cross-attention", r"model\.get_encoder\(\)"),
    ("hf-Albert", hf_model("Albert", **_SMALL, vocab_size=60, embedding_size=16), IDS,
     "AlbertModel runs one AlbertAttention several times", "weights of their own"),
    ("hf-Longformer", hf_model("Longformer", **_SMALL, vocab_size=60, attention_window=4), IDS,
     "LongformerModel: the blocks found carry 12 tokens for 9 ids", "give embeddings"),
    ("hf-XLNet", hf_model("XLNet", d_model=32, n_layer=1, n_head=4, d_inner=32, vocab_size=60), IDS,
     r"XLNetModel carries a stream of shape \[9, 1, 32\]", "the batch comes first"),
    ("hf-ViTMAE", hf_model("ViTMAE", **_SMALL, image_size=64, patch_size=16), IMAGE,
     "ViTMAEModel is not deterministic", "torch.manual_seed first"),
    ("hf-Mamba", hf_model("Mamba", hidden_size=32, num_hidden_layers=1, vocab_size=60, state_size=4), IDS,
     "no softmax attention over all 9 tokens was seen in block 0 .*state space", "attend over all tokens"),
]  # fmt: skip


def inputs_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape) if len(shape) == 4 else torch.randint(3, 50, shape)


@pytest.mark.parametrize("make, shape, reason, remedy", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_with_reason_and_remedy(
    make: Callable[[], nn.Module], shape: tuple[int, ...], reason: str, remedy: str
) -> None:
    lta = LatentTokenAttribution(make().eval())
    with pytest.raises(UnsupportedModelError, match=f"(?s){reason}.*{remedy}"):
        lta.attribute(inputs_of(shape), token=1)


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flex_attention"])
@pytest.mark.parametrize("name", ["hf-ViTModel-sdpa", "hf-LlamaForCausalLM-sdpa"])
def test_kernels_that_hide_attention(name: str, kernel: str) -> None:
    case = case_named(name)
    model: Any = case.model()
    model.config._attn_implementation = kernel
    with pytest.raises(UnsupportedModelError, match=rf'{kernel}.*set_attn_implementation\("sdpa"\)'):
        LatentTokenAttribution(model).attribute(case.inputs())


def test_a_hidden_kernel_below_the_configuration_is_noticed_by_its_absence() -> None:
    """Nothing says so beforehand: the run itself shows no attention, which must not become an empty map."""

    class Hidden(PlainBlock):
        def forward(self, x: Tensor) -> Tensor:
            b, n, _ = x.shape
            q, k, v = self.qkv(self.first_norm(x)).view(b, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
            mixed = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
            return x + self.out(mixed.transpose(1, 2).reshape(b, n, -1))

    model = PlainTransformer(fused=True)
    model.steps = nn.ModuleList([Hidden(fused=True) for _ in range(2)])
    ids = inputs_of(IDS)
    with pytest.raises(UnsupportedModelError, match="ran no softmax attention"):
        LatentTokenAttribution(model).attribute(ids)
    with pytest.raises(
        UnsupportedModelError, match=r"no softmax attention over all 9 tokens.*block 0 .Hidden.*a kernel that hides"
    ):
        LatentTokenAttribution(model, blocks="steps").attribute(ids)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript itself
def test_wrappers_are_refused_before_anything_runs() -> None:
    model = PlainTransformer(fused=True)
    with pytest.raises(UnsupportedModelError, match=r"OptimizedModule is compiled.*_orig_mod"):
        LatentTokenAttribution(torch.compile(model))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match=r"DataParallel.*model\.module"):
        LatentTokenAttribution(nn.DataParallel(model))
    with pytest.raises(UnsupportedModelError, match=r"TorchScript.*eager module"):
        LatentTokenAttribution(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)))
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got function"):
        LatentTokenAttribution(lambda x: x)  # type: ignore[arg-type, return-value]


def test_gradient_checkpointing_of_timm_is_refused_with_the_switch() -> None:
    case = case_named("timm-vit")
    model: Any = case.model()
    model.set_grad_checkpointing(True)
    with pytest.raises(UnsupportedModelError, match=r"set_grad_checkpointing\(False\)"):
        LatentTokenAttribution(model).attribute(case.inputs())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # renamed in transformers 5, not in 4
def test_gradient_checkpointing_of_transformers_rests_in_evaluation_mode() -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    model: Any = case.model()
    expected = LatentTokenAttribution(model).attribute(case.inputs(), token="all")
    model.gradient_checkpointing_enable()
    assert torch.equal(LatentTokenAttribution(model.train()).attribute(case.inputs(), token="all"), expected)


class Odd(PlainBlock):
    """A block that does one thing that no explanation could follow."""

    def __init__(self, oddity: str) -> None:
        super().__init__(fused=True)
        self.oddity = oddity

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.oddity == "dropout":
            return F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
        if self.oddity == "cross":
            memory = torch.ones(*k.shape[:2], 3, k.shape[3])
            return F.scaled_dot_product_attention(q, memory, memory)
        if self.oddity == "twice":
            return F.scaled_dot_product_attention(q, k, v) + F.scaled_dot_product_attention(q, v, k)
        if self.oddity == "windows":
            q, k, v = (each.unflatten(2, (3, 3)).transpose(1, 2).flatten(0, 1) for each in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v)
            return mixed.unflatten(0, (-1, 3)).transpose(1, 2).flatten(2, 3)
        if self.oddity == "bias":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=q.sum(-1, keepdim=True))
        assert self.oddity == "linear"
        return q.softmax(-1) @ (k.transpose(-2, -1) @ v)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.first_norm(x)).view(b, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
        return x + self.out(self.attend(q, k, v).transpose(1, 2).reshape(b, n, -1))


@pytest.mark.parametrize(
    "oddity, message",
    [
        ("dropout", r"block 0 \(Odd\) applies attention dropout \(p=0.1\).*set the dropout to 0"),
        ("cross", "attends from 9 tokens to 3 keys; .*cross-attention.*encoder"),
        ("twice", r"runs 2 attentions where one is expected.*blocks=\[\.\.\.\]"),
        ("windows", r"queries of shape \[6, 4, 3, 8\].*windowed.*global attention"),
        ("bias", "attention bias from the latents.*eager attention"),
        ("linear", "no softmax attention over all 9 tokens.*linear.*attend over all tokens"),
    ],
)
def test_blocks_that_no_explanation_could_follow(oddity: str, message: str) -> None:
    model = PlainTransformer(fused=True)
    model.steps = nn.ModuleList([Odd(oddity) for _ in range(2)])
    with pytest.raises(UnsupportedModelError, match=message):
        LatentTokenAttribution(model, blocks="steps").attribute(torch.randint(3, 50, (2, 9)))


def test_blocks_that_merge_tokens() -> None:
    class Merging(PlainBlock):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, ::2]

    model = PlainTransformer(fused=True)
    model.steps = nn.ModuleList([Merging(fused=True) for _ in range(2)])
    with pytest.raises(UnsupportedModelError, match=r"turns \(2, 9\) \(batch, tokens\) into \(2, 5\).*blocks=..."):
        LatentTokenAttribution(model).attribute(torch.randint(3, 50, (2, 9)))


def test_one_block_run_twice() -> None:
    model = PlainTransformer(fused=True)
    shared = PlainBlock(fused=True)
    model.steps = nn.ModuleList([shared, shared])
    ids = torch.randint(3, 50, (2, 9))
    with pytest.raises(UnsupportedModelError, match="blocks='steps' holds a PlainBlock more than once"):
        LatentTokenAttribution(model, blocks="steps").attribute(ids)
    with pytest.raises(UnsupportedModelError, match="nested blocks"):
        LatentTokenAttribution(model, blocks=[shared, shared]).attribute(ids)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # quantize_dynamic itself
def test_quantised_modules_are_refused_before_anything_runs() -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    quantised = torch.ao.quantization.quantize_dynamic(case.model(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(UnsupportedModelError, match=r"quantised Linear.*no backward pass.*bfloat16"):
        LatentTokenAttribution(quantised)


@pytest.mark.parametrize("fused", [True, False])
def test_kernels_without_a_backward_pass(fused: bool) -> None:
    """The output of such a kernel claims to need a gradient and passes none on: maps would be empty."""

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            return x @ weight

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            return None, None

    class Quantised(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return Kernel.apply(x, self.weight)

    model = PlainTransformer(fused)
    for block in model.steps:
        block.out = Quantised(32, 32)
    with pytest.raises(UnsupportedModelError, match=r"no gradient reaches the attention of block 2.*quantised"):
        LatentTokenAttribution(model).attribute(torch.randint(3, 50, (2, 9)))


def test_models_that_switch_gradients_off() -> None:
    class WithoutGradients(PlainTransformer):
        @torch.no_grad()
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids)

    with pytest.raises(UnsupportedModelError, match=r"output of block 0 \(PlainBlock\) is cut off.*no_grad"):
        LatentTokenAttribution(WithoutGradients(fused=True)).attribute(torch.randint(3, 50, (2, 9)))


def test_streams_detached_between_blocks() -> None:
    class Detached(PlainTransformer):
        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            for step in self.steps:
                x = step(x.detach())
            return x

    lta = LatentTokenAttribution(Detached(fused=True))
    with pytest.raises(UnsupportedModelError, match=r"input of block 1 \(PlainBlock\) is cut off.*detach"):
        lta.attribute(torch.randint(3, 50, (2, 9)))
    assert lta.attribute(torch.randint(3, 50, (2, 9)), layer=1).shape == (2, 9)
