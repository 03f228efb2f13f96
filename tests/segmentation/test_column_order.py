"""Patches that a model keeps column by column: what is made of them lies where the patches lie in the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ultra.models.vit import VisionTransformer, ViTConfig
from captum_ultra.perturbation import LatentPerturbationTest
from captum_ultra.segmentation import LatentTokenSegmenter, UltraWSettings, train_ultra_w

SIZES = ViTConfig(image_size=16, dim=16, depth=2, heads=2)


class Columns(VisionTransformer):
    """The same function of a picture, its tokens in another order."""

    def forward_features(self, x: Tensor) -> Tensor:
        side = self.image_size // self.patch_size
        order = torch.arange(side * side).view(side, side).T.flatten()
        tokens = (self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed)[:, order]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, order]


def test_nothing_depends_on_the_order_of_the_tokens() -> None:
    torch.manual_seed(0)
    images, rows = torch.randn(2, 3, 16, 16).double(), VisionTransformer(SIZES).double().eval()
    columns = Columns(SIZES).double().eval()
    columns.load_state_dict(rows.state_dict())

    first, second = (LatentTokenSegmenter(model, 2, n_clusters=3).segment(images) for model in (rows, columns))
    torch.testing.assert_close(first.maps, second.maps)
    assert torch.equal(first.labels, second.labels)
    one, other = (LatentPerturbationTest(model, 2, 0.3, tokens=3).run(images) for model in (rows, columns))
    torch.testing.assert_close(one.distances, other.distances)
    settings = UltraWSettings(n_clusters=2, batch_size=2)
    losses = [train_ultra_w(model, images, layer=2, settings=settings).losses for model in (rows, columns)]
    torch.testing.assert_close(*losses)
