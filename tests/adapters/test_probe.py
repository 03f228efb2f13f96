"""Models that no attention map would explain are refused by what they do, whatever their classes are called."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from tests.builders import CASES, Case

DIM, HEADS, TOKENS = 16, 2, 9


class Oddity:
    """A plain block of which every part can be replaced."""

    fused = True

    def tokens(self, x: Tensor) -> Tensor:
        """What queries, keys and values are made of."""
        return x

    def memory(self, x: Tensor) -> Tensor:
        """What keys and values are made of."""
        return x

    def probabilities(self, A: Tensor) -> Tensor:
        """What the values are multiplied by."""
        return A

    def product(self, A: Tensor, v: Tensor) -> Tensor:
        """How the values are multiplied."""
        return A @ v

    def used(self, A: Tensor) -> Tensor:
        """What else is made of the probabilities, [B, H, n]."""
        return torch.zeros_like(A[..., 0])

    def attended(self, y: Tensor) -> Tensor:
        """What is made of the attention's output."""
        return y

    def beside(self, x: Tensor) -> Tensor:
        """What is added beside the attention."""
        return torch.zeros_like(x)

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        """The residual sum."""
        return x + y


class Block(nn.Module):
    def __init__(self, oddity: Oddity) -> None:
        super().__init__()
        self.oddity, self.norm = oddity, nn.LayerNorm(DIM)
        self.query, self.pair, self.out = nn.Linear(DIM, DIM), nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, 32), nn.GELU(), nn.Linear(32, DIM))

    def forward(self, x: Tensor) -> Tensor:
        odd, normed = self.oddity, self.norm(x)
        q = self.query(odd.tokens(normed)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        pair = self.pair(odd.memory(odd.tokens(normed))).unflatten(-1, (2, HEADS, -1))
        k, v = pair.permute(2, 0, 3, 1, 4)
        if odd.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            A = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            y = odd.product(odd.probabilities(A), v) + odd.used(A)[..., None]
        y = odd.attended(self.out(y.transpose(1, 2).flatten(2)))
        x = odd.joined(x, y + odd.beside(normed))
        return x + self.mlp(x) if type(odd).joined is Oddity.joined else x


class Model(nn.Module):
    def __init__(self, oddity: Oddity, between: Callable[[Tensor, Tensor], Tensor] = lambda x, y: y) -> None:
        super().__init__()
        self.between = between
        self.layers = nn.ModuleList(Block(oddity) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.between(x, layer(x))
        return x


def neighbours(x: Tensor) -> Tensor:
    """A depthwise convolution over three tokens, spelt out."""
    return x + 0.5 * x.roll(1, 1) + 0.25 * x.roll(-1, 1)


def eager(**parts: Any) -> Oddity:
    return odd(fused=False, **parts)


def odd(**parts: Any) -> Oddity:
    named = {name: part if name == "fused" else staticmethod(part) for name, part in parts.items()}
    return type("Odd", (Oddity,), named)()


def top_two(A: Tensor) -> Tensor:
    least = A.topk(min(2, A.shape[-1])).values[..., -1:]
    return A * (least <= A)


MEMORY = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(1))
REFUSED = {
    "convolution beside": (odd(beside=neighbours), "block 0 .*moves information.*beside its attention"),
    "pooling beside": (odd(beside=lambda x: x.mean(1, keepdim=True).expand_as(x)), "beside its attention"),
    "last token into the first": (odd(beside=lambda x: F.pad(x[:, -1:], (0, 0, 0, 8))), "moves information.*beside"),
    "into the first token alone": (odd(beside=lambda x: F.pad(x.mean(1, keepdim=True), (0, 0, 0, 8))), "beside"),
    "from the first token alone": (odd(beside=lambda x: x[:, :1].expand_as(x)), "moves information.*beside"),
    "convolution before": (odd(tokens=neighbours), "moves information.*to make its queries"),
    "convolution before, own softmax": (eager(tokens=neighbours), "moves information.*to make its scores"),
    "convolution behind": (odd(attended=neighbours), "moves information.*behind its attention"),
    "convolution behind, own softmax": (eager(attended=neighbours), "moves information.*behind its attention"),
    "memory": (odd(memory=lambda x: MEMORY.expand_as(x)), "takes its keys from elsewhere"),
    "memory, own softmax": (eager(memory=lambda x: MEMORY.expand_as(x)), "takes its keys from elsewhere"),
    "talking heads": (eager(probabilities=lambda A: 0.7 * A + 0.3 * A.flip(1)), "does not multiply the values"),
    "differential": (eager(probabilities=lambda A: A - 0.4 * A.roll(1, 1)), "does not multiply the values"),
    "top two, normalised": (eager(probabilities=lambda A: F.normalize(top_two(A), p=1, dim=-1)), "does not multiply"),
    "other uses of the probabilities": (eager(used=lambda A: A.sum(-2)), "moves information"),
    "no residual sum": (odd(joined=lambda x, y: y), "residual sum stands outside"),
    "samples mixed": (odd(beside=lambda x: x.roll(1, 0)), "mixes the samples of a batch"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_blocks_that_mix_tokens_where_no_map_shows_it(name: str) -> None:
    torch.manual_seed(0)
    oddity, message = REFUSED[name]
    model, x = Model(oddity), torch.randn(2, TOKENS, DIM)
    for _ in range(2):  # it is not forgotten, and nothing is left behind
        with pytest.raises(UnsupportedModelError, match=message):
            LatentTokenAttribution(model, blocks="layers").attribute(x, token=3)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert LatentTokenAttribution(model, "layers", probe=False).attribute(x, token=3).shape == (2, TOKENS)


ACCEPTED = {
    "plain": odd(), "own softmax": eager(), "zeros among the probabilities": eager(probabilities=top_two),
    "token by token beside": odd(beside=lambda x: x.square()),
    "another order": eager(product=lambda A, v: (v.mT @ A.mT).mT),
    "two products": eager(product=lambda A, v: A @ v + A @ v.tanh()),
    "a constant beside the values": eager(product=lambda A, v: A @ torch.ones_like(v) + torch.matmul(A, v)),
    "a sum": eager(product=lambda A, v: torch.einsum("bhjd,bhij->bhid", v, A)),
    "keys of another depth": odd(memory=lambda x: x.tanh() * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("tokens", [1, 2, 3, TOKENS])
def test_what_works_token_by_token_is_explained(name: str, tokens: int) -> None:
    torch.manual_seed(0)
    model, x = Model(ACCEPTED[name]), torch.randn(2, tokens, DIM)
    maps = LatentTokenAttribution(model).attribute(x, token=-1, self_token="keep")
    assert torch.equal(maps, LatentTokenAttribution(model, probe=False).attribute(x, token=-1, self_token="keep"))


BETWEEN = {
    "tokens mixed": (lambda x, y: neighbours(y), "tokens are mixed in between"),
    "residual sum outside": (lambda x, y: x + y, "a connection passes it by"),
    "something else": (lambda x, y: x.tanh(), "it is made of something else"),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_leaves_a_block_must_enter_the_next(name: str) -> None:
    torch.manual_seed(0)
    between, message = BETWEEN[name]
    with pytest.raises(
        UnsupportedModelError, match=f"block 1 .* is not what left the block before.*{message}|block 2 .*{message}"
    ):
        LatentTokenAttribution(Model(odd(), between)).attribute(torch.randn(2, TOKENS, DIM), token=3)


def test_a_norm_between_blocks_is_no_matter() -> None:
    model, x = Model(odd(), lambda x, y: F.layer_norm(y, (DIM,))), torch.randn(2, TOKENS, DIM)
    assert LatentTokenAttribution(model).attribute(x, token=3).shape == (2, TOKENS)


def test_blocks_that_are_passed_over() -> None:
    model, x = Model(odd()), torch.randn(2, TOKENS, DIM)
    with pytest.raises(UnsupportedModelError, match="passed over"):
        LatentTokenAttribution(model, blocks=["layers.0", "layers.2"]).attribute(x)
    with pytest.raises(UnsupportedModelError, match="passed over"):
        LatentTokenAttribution(model, blocks=["layers.0", "layers.2"]).attribute(x, token=2, layer=1)


class Aside(nn.Module):
    """Blocks that are given something made of the whole stream, as it was before the first of them."""

    def __init__(self, given: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.given, self.embed = given, nn.Linear(DIM, DIM)
        self.layers = nn.ModuleList(Given() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        beside = self.given(x)
        for layer in self.layers:
            x = layer(x, beside)
        return x


class Given(Block):
    def __init__(self) -> None:
        super().__init__(odd())

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        return super().forward(x) + (0 if beside is None else beside)


def test_what_is_handed_round_the_blocks() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, TOKENS, DIM)
    with pytest.raises(UnsupportedModelError, match=r"block 0 .*beside its attention"):
        LatentTokenAttribution(Aside(lambda x: x.mean(1, keepdim=True))).attribute(x)
    assert LatentTokenAttribution(Aside(torch.tanh)).attribute(x).shape == (2, TOKENS)


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("direction", ["into the first", "from the first", "into the last"])
def test_mixing_in_a_single_block(block: int, direction: str) -> None:
    torch.manual_seed(0)

    def beside(x: Tensor) -> Tensor:
        if direction == "from the first":
            return x[:, :1].expand_as(x)
        mean = x.mean(1, keepdim=True)
        return F.pad(mean, (0, 0, 0, 8) if direction == "into the first" else (0, 0, 8, 0))

    model = nn.Sequential(*(Block(odd(beside=beside) if each == block else odd()) for each in range(4)))
    with pytest.raises(UnsupportedModelError, match=rf"block {block} .*beside its attention"):
        LatentTokenAttribution(model).attribute(torch.randn(1, TOKENS, DIM))


def test_an_input_that_shows_more_is_looked_at_again() -> None:
    torch.manual_seed(0)
    model = Model(odd(beside=lambda x: x.mean(1, keepdim=True).expand_as(x) if x.isfinite().all() else x))
    LatentTokenAttribution(model, blocks="layers").attribute(torch.randn(1, 1, DIM))
    with pytest.raises(UnsupportedModelError, match="moves information"):
        LatentTokenAttribution(model, blocks="layers").attribute(torch.randn(1, TOKENS, DIM))
    model = Model(odd(beside=lambda x: x.roll(1, 0)))
    LatentTokenAttribution(model, blocks="layers").attribute(torch.randn(1, TOKENS, DIM))
    with pytest.raises(UnsupportedModelError, match="samples of a batch"):
        LatentTokenAttribution(model, blocks="layers").attribute(torch.randn(3, TOKENS, DIM))
    model = Model(odd(beside=neighbours))
    with pytest.raises(ValueError, match="NaN"):
        LatentTokenAttribution(model, blocks="layers").attribute(torch.full((1, TOKENS, DIM), torch.nan))
    with pytest.raises(UnsupportedModelError, match="moves information"):
        LatentTokenAttribution(model, blocks="layers").attribute(torch.randn(1, TOKENS, DIM))


@pytest.mark.parametrize("change", ["hook", "forward", "buffer"])
def test_changes_beside_modules_and_weights_are_seen(change: str) -> None:
    torch.manual_seed(0)
    model, x = Model(odd()), torch.randn(1, TOKENS, DIM)
    block = model.layers[1]
    block.register_buffer("much", torch.zeros(()))
    block.oddity = odd(beside=lambda x: block.much * neighbours(x))
    LatentTokenAttribution(model, blocks="layers").attribute(x)
    if change == "hook":
        block.register_forward_hook(lambda module, args, output: neighbours(output))
    elif change == "forward":
        usual = block.forward
        block.forward = lambda x: neighbours(usual(x))  # type: ignore[method-assign]
    else:
        block.get_buffer("much").fill_(1)
    with pytest.raises(UnsupportedModelError, match=r"block 1 .*moves information|tokens are mixed in between"):
        LatentTokenAttribution(model, blocks="layers").attribute(x)


def test_tokens_that_are_mixed_before_the_first_block() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.model = nn.Embedding(20, DIM), nn.LSTM(DIM, DIM, batch_first=True), Model(odd())

        def forward(self, ids: Tensor) -> Tensor:
            return self.model(self.lstm(self.embed(ids))[0])

    with pytest.warns(UserWarning, match="mixes its tokens before the first block"):
        LatentTokenAttribution(Recurrent()).attribute(torch.randint(20, (1, 7)))


def test_a_model_that_changes_its_input_in_place() -> None:
    class Normalising(Staged):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.sub_(0.5).div_(0.25))

    torch.manual_seed(0)
    model, images = Normalising(2, 0), torch.rand(1, 3, 32, 32)
    before = images.clone()
    first = LatentTokenAttribution(model).attribute(images, token=3, output="tokens")
    assert torch.equal(images, before)
    assert torch.equal(first, LatentTokenAttribution(model).attribute(images, token=3, output="tokens"))


class Staged(nn.Module):
    """Blocks over patches, every second of which goes on to blocks of another stage."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, DIM, 8, 8)
        self.first = nn.ModuleList(Block(odd()) for _ in range(first))
        self.second = nn.ModuleList(Block(odd()) for _ in range(second))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2)
        for block in self.first:
            x = block(x)
        x = x[:, ::2]
        for block in self.second:
            x = block(x)
        return x


@pytest.mark.parametrize(
    ("sizes", "words", "remedy"),
    [((1, 3), "1 run before the first of them .first.0", "second"), ((3, 2), "2 run behind the last of them", "first")],
)  # fmt: skip
def test_a_part_is_not_explained_as_the_whole(sizes: tuple[int, int], words: str, remedy: str) -> None:
    torch.manual_seed(0)
    model, images = Staged(*sizes), torch.randn(1, 3, 32, 32)
    with pytest.raises(UnsupportedModelError, match=rf"do not hold all attention.*{words}.*blocks='{remedy}'"):
        LatentTokenAttribution(model).attribute(images, token=0, output="tokens")
    lta = LatentTokenAttribution(model, blocks=remedy)  # as the message says
    with pytest.warns(UserWarning, match="do not hold all attention"):
        rows = lta.attribute(images, token=0, output="tokens")
    assert rows.shape == (1, 16 if remedy == "first" else 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        lta.attribute(images, token=0, output="tokens")
    with pytest.raises(UnsupportedModelError, match="do not hold all attention"):  # to who names nothing, each time
        LatentTokenAttribution(model).attribute(images, token=0, output="tokens")


def test_a_part_behind_one_that_runs_without_gradients() -> None:
    class Frozen(Staged):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.patch(images).flatten(2).transpose(1, 2)
                for block in self.first:
                    x = block(x)
            for block in self.second:
                x = block(x)
            return x

    with pytest.raises(UnsupportedModelError, match=r"2 run before the first of them .first.0"):
        LatentTokenAttribution(Frozen(2, 3)).attribute(torch.randn(1, 3, 32, 32), output="tokens")


def test_a_share_that_goes_to_a_sink_is_no_mixing() -> None:
    class Sink(Block):
        def forward(self, x: Tensor) -> Tensor:
            q, pair = self.query(x), self.pair(x)
            scores = q @ pair[..., :DIM].mT
            kept = scores.logsumexp(-1, keepdim=True).sigmoid()
            return x + self.out(kept * (scores.softmax(-1) @ pair[..., DIM:]))

    model = nn.Sequential(Sink(odd()), Sink(odd()))
    assert LatentTokenAttribution(model).attribute(torch.randn(2, TOKENS, DIM)).shape == (2, TOKENS)


def test_a_model_that_packs_pictures_says_so() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(DIM, DIM)])

        def forward(self, x: Tensor) -> Tensor:
            return self.layers[0](x.flatten(0, 1))

    with pytest.raises(UnsupportedModelError, match="packs its inputs into one sequence"):
        LatentTokenAttribution(Packed(), blocks="layers").attribute(torch.randn(2, TOKENS, DIM))


class Drawing(nn.Module):
    """Draws its tokens, or the dropout of its blocks, at random."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.model = where, Model(odd(beside=lambda x: F.dropout(x, 0.2 if where == "blocks" else 0.0)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x[:, torch.randperm(TOKENS)] if self.where == "tokens" else x)


class Seeded(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return self.model(x)


@pytest.mark.parametrize("where", ["tokens", "blocks"])
def test_models_that_draw_are_refused_with_a_remedy_that_works(where: str) -> None:
    model, x = Drawing(where), torch.randn(1, TOKENS, DIM)
    with pytest.raises(UnsupportedModelError, match=r"is not deterministic.*torch.manual_seed first"):
        LatentTokenAttribution(model, blocks="model.layers").attribute(x)
    rows = LatentTokenAttribution(Seeded(model), blocks="model.model.layers").attribute(x)
    assert torch.equal(rows, LatentTokenAttribution(Seeded(model), blocks="model.model.layers").attribute(x))


class TwoTowers(nn.Module):
    """A tower for ids and a deeper one for pictures, which it may be given beside."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.patch = nn.Embedding(20, DIM), nn.Conv2d(3, DIM, 8, 8)
        self.words = nn.ModuleList(Block(odd()) for _ in range(2))
        self.pictures = nn.ModuleList(Block(odd()) for _ in range(3))

    def forward(self, ids: Tensor | None = None, pixels: Tensor | None = None) -> Tensor:
        found = []
        for inputs, embed, blocks in ((ids, self.embed, self.words), (pixels, self.patch, self.pictures)):
            if inputs is not None:
                x = embed(inputs)
                x = x if inputs is ids else x.flatten(2).transpose(1, 2)
                for block in blocks:
                    x = block(x)
                found.append(x.mean(1))
        return torch.stack(found).sum(0)


def test_the_explained_input_decides_which_chain_is_meant() -> None:
    torch.manual_seed(0)
    model, ids, pixels = TwoTowers(), torch.randint(20, (1, 7)), torch.randn(1, 3, 32, 16)
    for _ in range(2):
        lta = LatentTokenAttribution(model)
        with_both = lta.attribute(ids, token=2, additional_forward_args={"pixels": pixels})
        assert torch.equal(with_both, lta.attribute(ids, token=2))
    images = Pictures(model)
    assert LatentTokenAttribution(images).attribute(pixels, token=(3, 1), layer=3).shape == (1, 1, 32, 16)


class Pictures(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(None, pixels)


def test_what_was_found_holds_until_the_model_changes() -> None:
    torch.manual_seed(0)
    model, x = Model(odd()), torch.randn(1, TOKENS, DIM)
    runs = list[object]()
    model.register_forward_hook(lambda *args: runs.append(args))
    LatentTokenAttribution(model, blocks="layers").attribute(x)
    first = len(runs)
    LatentTokenAttribution(model, blocks="layers").attribute(torch.randn(2, TOKENS + 2, DIM), token=1, layer=2)
    assert (first, len(runs)) == (1, 1)  # the probe looks behind the blocks, explanations stop before
    model.layers[1] = Block(odd(beside=neighbours))
    with pytest.raises(UnsupportedModelError, match=r"block 1 .*beside its attention"):
        LatentTokenAttribution(model, blocks="layers").attribute(x)
    model.layers[1] = silent = Block(odd(beside=lambda x: silent.mlp[1].bias.sum() * neighbours(x)))
    nn.init.zeros_(silent.mlp[1].bias)
    LatentTokenAttribution(model, blocks="layers").attribute(x)
    with torch.no_grad():
        silent.mlp[1].bias.fill_(0.1)  # as loading weights does
    with pytest.raises(UnsupportedModelError, match=r"block 1 .*beside its attention"):
        LatentTokenAttribution(model, blocks="layers").attribute(x)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_probe_that_is_interrupted_leaves_nothing_behind(error: type[BaseException]) -> None:
    torch.manual_seed(0)
    model, x = Model(odd()).train(), torch.randn(1, TOKENS, DIM)
    expected = LatentTokenAttribution(Model(odd()), blocks="layers")
    expected.model.load_state_dict(model.state_dict())

    def interrupt(*args: object) -> None:
        raise error("stop")

    handle = model.layers[1].register_forward_hook(interrupt)
    with pytest.raises(error, match="stop"):
        LatentTokenAttribution(model, blocks="layers").attribute(x)
    handle.remove()
    assert model.training and all(each.requires_grad for each in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(LatentTokenAttribution(model, blocks="layers").attribute(x), expected.attribute(x))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_probe_changes_no_explanation(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    random = torch.get_rng_state()
    rows = LatentTokenAttribution(model).attribute(inputs, output="tokens", self_token="keep")
    assert torch.equal(random, torch.get_rng_state())
    unprobed = LatentTokenAttribution(model, probe=False).attribute(inputs, output="tokens", self_token="keep")
    assert torch.equal(rows, unprobed)
