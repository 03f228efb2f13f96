"""What the arguments of ``attribute`` mean, and the error that every wrong one gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from tests.attr.models import images, text, vit

LTA = LatentTokenAttribution


def row(**options: Any) -> torch.Tensor:
    return LTA(vit()).attribute(images(), **{"output": "tokens", "layer": 2, **options})


class TestToken:
    def test_an_index_gives_one_map_and_a_list_an_axis(self) -> None:
        single, several = row(token=3), row(token=[3])
        assert single.shape == (2, 17) and several.shape == (2, 1, 17)
        torch.testing.assert_close(single, several[:, 0])

    def test_negative_indices_count_from_the_end(self) -> None:
        torch.testing.assert_close(row(token=-1), row(token=16))

    def test_all_and_patches(self) -> None:
        every = row(token="all")
        assert every.shape == (2, 17, 17)
        torch.testing.assert_close(row(token="patches"), every[:, 1:])
        torch.testing.assert_close(row(token=torch.tensor([2, 0])), every[:, [2, 0]])

    def test_row_and_column_of_a_patch(self) -> None:
        torch.testing.assert_close(row(token=(1, 2)), row(token=1 + 1 * 4 + 2))

    def test_per_sample_targets(self) -> None:
        every = row(token="all")
        torch.testing.assert_close(row(target=torch.tensor([4, 9])), torch.stack([every[0, 4], every[1, 9]]))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"token": 17}, ValueError, r"token 17 does not exist.*0\.\.16; 1 before a patch grid of 4 x 4"),
            ({"token": -18}, ValueError, "token -18 does not exist"),
            ({"token": (4, 0)}, ValueError, r"patch grid is 4 x 4, rows 0\.\.3"),
            ({"token": "cls"}, ValueError, "'cls' is unknown"),
            ({"token": []}, ValueError, "at least one token"),
            ({"token": 1.5}, TypeError, "integers"),
            ({"token": True}, TypeError, "integers"),
            ({"token": 2, "target": 3}, ValueError, "not both"),
            ({"target": torch.tensor([1, 2, 3])}, ValueError, "3 tokens for a batch of 2"),
            ({"target": torch.tensor([0.5, 1.0])}, TypeError, "integers"),
            ({"target": (1, 2)}, TypeError, "one token a sample"),
        ],
    )
    def test_errors(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            row(**options)

    def test_sequences_have_no_patches(self) -> None:
        ids = torch.randint(0, 11, (2, 6))
        lta = LTA(text())
        assert lta.attribute(ids, token=2).shape == (2, 6)
        for token in ("patches", (0, 1)):
            with pytest.raises(ValueError, match="needs an image"):
                lta.attribute(ids, token=token)


class TestLayer:
    def test_number_name_and_module_agree(self) -> None:
        model, x = vit(), images()
        by_number = LTA(model).attribute(x, layer=2)
        for layer in ("blocks.1", model.blocks[1], -2):
            torch.testing.assert_close(LTA(model).attribute(x, layer=layer), by_number)

    def test_at_the_embedding_every_token_explains_itself(self) -> None:
        torch.testing.assert_close(row(token="all", layer=0, self_token="keep"), torch.eye(17).expand(2, 17, 17))

    def test_a_map_without_anything_beside_the_token_itself_is_said_to_be_so(self) -> None:
        with pytest.warns(UserWarning, match="the map is zero: at layer 0"):
            row(token=3, layer=0)

    @pytest.mark.parametrize(
        ("layer", "error", "message"),
        [
            (4, ValueError, r"layer=4 does not exist: with 3 blocks there are layers 0 \(the embedding\) to 3"),
            (-5, ValueError, "layer=-5 does not exist"),
            ("head", ValueError, "not a block of the model; its blocks are blocks.0, blocks.1, blocks.2"),
            ("nowhere", ValueError, "not a block of the model"),
            (1.5, TypeError, "layer must be a number"),
            ([], ValueError, "an empty list"),
            ([1, "blocks.1", -2], ValueError, r"names layer 2 of 3 twice; name each layer once"),
        ],
    )
    def test_errors(self, layer: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            row(layer=layer)

    def test_none_is_the_last_layer_and_a_list_gives_one_map_each(self) -> None:
        torch.testing.assert_close(row(layer=None, token=3), row(layer=3, token=3))
        several = row(layer=["blocks.2", 1], token=3)
        torch.testing.assert_close(several[0], row(layer=3, token=3))
        torch.testing.assert_close(several[1], row(layer=1, token=3))


class TestScore:
    def test_a_vector_of_ones_is_the_sum(self) -> None:
        torch.testing.assert_close(row(score=torch.ones(16)), row(score="sum"))

    def test_a_matrix_gives_every_token_its_own_direction_and_more_every_sample(self) -> None:
        weights = torch.randn(2, 17, 16, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(row(token=3, score=weights[0]), row(token=3, score=weights[0, 3]))
        of_samples = torch.stack([row(token=3, score=each)[sample] for sample, each in enumerate(weights)])
        torch.testing.assert_close(row(token=3, score=weights), of_samples)

    def test_as_many_samples_as_tokens_leave_open_whose_directions_are_given(self) -> None:
        lta, ids, weights = LTA(text()), torch.randint(0, 11, (4, 4)), torch.randn(4, 16)
        with pytest.raises(ValueError, match=r"one direction a token or one a sample.*\[B, n, d\]"):
            lta.attribute(ids, score=weights)
        of_samples = lta.attribute(ids, score=weights[:, None].expand(4, 4, 16), token=1)
        torch.testing.assert_close(of_samples[2], lta.attribute(ids[2:3], score=weights[2], token=1)[0])

    def test_a_callable_of_the_latents(self) -> None:
        torch.testing.assert_close(row(score=lambda t: t.square().sum(-1)), row(score="energy"))
        assert not torch.allclose(row(score="energy"), row(score="sum"))

    def test_a_callable_may_mix_tokens(self) -> None:
        mixed = row(token=3, score=lambda t: t.sum(-1) - t.sum(-1).mean(1, keepdim=True))
        assert not torch.allclose(mixed, row(token=3, score="sum"))

    def test_normalize_scales_the_gradient_only(self) -> None:
        """relu(dA A) is linear in the scale of f, so at layer 1 the part beside the identity is too."""
        lta, x = LTA(vit()), images(1)
        norm = []
        handle = lta.model.blocks[0].register_forward_hook(lambda m, a, out: norm.append(out[0, 3].norm()))
        raw, unit = (
            lta.attribute(x, token=3, layer=1, score="sum", normalize=n, self_token="zero", output="tokens")
            for n in (False, True)
        )
        handle.remove()
        torch.testing.assert_close(raw, unit * norm[0])

    @pytest.mark.parametrize(
        ("score", "error", "message"),
        [
            ("norm", ValueError, "'norm' is unknown; possible: 'sum', 'energy'"),
            (torch.ones(15), ValueError, r"weights \[15\] do not fit.*vector \[16\]"),
            (torch.ones(2, 16), ValueError, r"weights \[2, 16\] do not fit.*2 samples.*\[17, 16\]"),
            (torch.ones(3, 17, 16), ValueError, r"weights \[3, 17, 16\] do not fit.*\[2, 17, 16\]"),
            (torch.ones(16, dtype=torch.long), ValueError, "floating-point"),
            (lambda t: t, ValueError, "one scalar a token"),
            (lambda t: t.detach().sum(-1), ValueError, "does not depend on the latents"),
            (3, TypeError, "a name, a tensor or a callable"),
        ],
    )
    def test_errors(self, score: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            row(score=score)


class TestOutput:
    def test_self_token(self) -> None:
        keep, zero, largest = (row(token=3, self_token=s) for s in ("keep", "zero", "max"))
        assert (keep[:, 3] >= 1).all() and (zero[:, 3] == 0).all()
        others = torch.cat([keep[:, :3], keep[:, 4:]], 1)
        torch.testing.assert_close(largest[:, 3], others.max(1).values)
        torch.testing.assert_close(torch.cat([zero[:, :3], zero[:, 4:]], 1), others)

    def test_the_maximum_is_taken_among_what_is_shown(self) -> None:
        patches, keep = row(token=3, output="patches"), row(token=3, self_token="keep")
        assert patches.shape == (2, 16)
        others = torch.cat([keep[:, 1:3], keep[:, 4:]], 1)
        torch.testing.assert_close(patches[:, 2], others.max(1).values)

    def test_a_prefix_target_has_no_entry_among_the_patches(self) -> None:
        torch.testing.assert_close(row(token=0, output="patches"), row(token=0, self_token="keep")[:, 1:])

    @pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
    def test_maps_have_the_size_of_the_image(self, interpolation: str) -> None:
        maps = row(token="patches", output="input", interpolation=interpolation)
        assert maps.shape == (2, 16, 16, 16) and maps.is_contiguous()
        if interpolation == "nearest":
            torch.testing.assert_close(maps[:, :, ::4, ::4].flatten(2), row(token="patches", output="patches"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"self_token": "mean"}, "self_token='mean' is unknown; possible: 'max', 'keep', 'zero'"),
            ({"output": "image"}, "output='image' is unknown"),
            ({"interpolation": "lanczos"}, "interpolation='lanczos' is unknown"),
            ({"output": "channels", "token": "all"}, "explain one target"),
            ({"internal_batch_size": 0}, "at least 1"),
        ],
    )
    def test_errors(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            row(**options)

    def test_patches_need_an_image(self) -> None:
        with pytest.raises(ValueError, match="needs images"):
            LTA(text()).attribute(torch.zeros(1, 4, dtype=torch.long), output="patches")


class TestInputs:
    @pytest.mark.parametrize(
        ("inputs", "error", "message"),
        [
            (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), ValueError, "images must be floating point.*uint8"),
            (torch.zeros(0, 3, 16, 16), ValueError, "non-empty batch"),
            (torch.zeros(3, 16, 16), ValueError, "add a batch dimension"),
            (torch.zeros(16), ValueError, "non-empty batch"),
            ("image.png", TypeError, "must be a tensor"),
            ((torch.zeros(1, 3, 16, 16), torch.zeros(1)), ValueError, "a tuple of 2"),
        ],
    )
    def test_errors(self, inputs: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            LTA(vit()).attribute(inputs)

    def test_additional_forward_args(self) -> None:
        model, x = vit(), images()
        shift = torch.randn(2, 16, 16)
        plain = LTA(model).attribute(x)
        for extra in (shift, (shift,), {"shift": shift}, ({"shift": shift},)):
            assert not torch.allclose(LTA(model).attribute(x, additional_forward_args=extra), plain)

    def test_chunked_equals_whole(self) -> None:
        for chunk in (1, 5, 100):
            chunked = row(token="all", internal_batch_size=chunk)
            torch.testing.assert_close(chunked, row(token="all"), rtol=1e-5, atol=1e-7)


class TestModel:
    def test_ids_that_are_not_what_the_blocks_carry(self) -> None:
        class Pooling(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.text = text()

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                return self.text(ids[:, ::2])

        with pytest.raises(UnsupportedModelError, match="carry 3 tokens for 6 ids"):
            LTA(Pooling()).attribute(torch.randint(0, 11, (2, 6)))

    def test_as_many_samples_as_tokens_with_the_tokens_first(self) -> None:
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, norm_first=True)
        model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        inputs = torch.randn(5, 5, 16)
        found = LTA(model).attribute(inputs, token=3)
        for sample in range(5):
            alone = LTA(model).attribute(inputs[:, sample : sample + 1], token=3)
            torch.testing.assert_close(found[sample : sample + 1], alone)
