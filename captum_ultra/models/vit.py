"""A plain pre-norm vision transformer, and the small denoiser that ships with the package.

A model maps the patches of an image to tokens, lets them exchange what they know in ``blocks``, and
normalises them; a head reads the result. Nothing in it is special to explanations; it is the
transformer of Dosovitskiy et al. (2021), section 3.1. The denoiser's head predicts the clean image; the
classifier is in :mod:`captum_ultra.models.vit_classifier`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["ViTConfig", "ViTTrunk", "VisionTransformer", "load_vit", "read_config", "scenes_vit"]


@dataclass(frozen=True)
class ViTConfig:
    """Sizes in pixels (``image_size``, ``patch_size``) and counts; ``mean`` and ``std`` are per RGB channel."""

    image_size: int = 64
    patch_size: int = 4
    dim: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: float = 2.0
    cls_token: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)


class Attention(nn.Module):
    """Multi-head self-attention, [B, N, d] to [B, N, d]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values: [3, B, heads, N, d / heads]."""
        b, n, d = x.shape
        return self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Attention, then an MLP, each on the normalised tokens and added to them."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = round(dim * mlp_ratio)
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViTTrunk(nn.Module):
    """The transformer without a head: a normalised image [B, 3, H, W] to normalised tokens [B, N, d].

    Args:
        config: sizes; see :class:`ViTConfig`.

    Raises:
        ValueError: if the image is not a whole number of patches, or ``dim`` of heads.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        if config.image_size % config.patch_size:
            raise ValueError(f"image_size {config.image_size} is no multiple of patch_size {config.patch_size}")
        self.config = config
        self.image_size, self.patch_size = config.image_size, config.patch_size
        self.num_prefix_tokens = int(config.cls_token)
        side = config.image_size // config.patch_size
        self.patch_embed = nn.Conv2d(3, config.dim, config.patch_size, stride=config.patch_size)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.dim)) if config.cls_token else None
        self.pos_embed = nn.Parameter(sine_positions(side, config.dim))
        blocks = (Block(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.dim)
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def preprocess(self, image: Tensor) -> Tensor:
        """Normalise RGB in [0, 1], [3, H, W] or [B, 3, H, W]; the same shape comes back."""
        return (image - self.mean) / self.std

    def postprocess(self, image: Tensor) -> Tensor:
        """Undo :meth:`preprocess`."""
        return image * self.std + self.mean

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens [B, N, d] of a normalised image [B, 3, H, W]; a CLS token comes first."""
        if x.dim() != 4 or x.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"the input has shape {list(x.shape)}; this model takes [batch, 3, {self.image_size}, "
                f"{self.image_size}]: resize the image, and add a batch dimension with image[None]"
            )
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class VisionTransformer(ViTTrunk):
    """A ViT that maps a normalised image [B, 3, H, W] to its estimate of the clean one, same shape.

    Args:
        config: sizes; see :class:`ViTConfig`.

    Raises:
        ValueError: if the image is not a whole number of patches, or ``dim`` of heads.

    Example:
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2))
        >>> model(model.preprocess(torch.rand(2, 3, 64, 64))).shape
        torch.Size([2, 3, 64, 64])
        >>> model.forward_features(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 256, 16])
    """

    def __init__(self, config: ViTConfig | None = None) -> None:
        super().__init__(config or ViTConfig())
        self.head = nn.Linear(self.config.dim, 3 * self.config.patch_size**2)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.head(self.forward_features(x)[:, self.num_prefix_tokens :])
        side = self.image_size // self.patch_size
        folded = patches.transpose(1, 2).reshape(len(x), -1, side, side)
        return F.pixel_shuffle(folded, self.patch_size)


def sine_positions(side: int, dim: int) -> Tensor:
    """Sines and cosines of rows and columns, [1, side * side, dim]: where the positions start to learn."""
    if dim % 4:
        raise ValueError(f"dim {dim} is not a multiple of 4: sine and cosine of a row and of a column")
    frequency = torch.logspace(0, -1.5, dim // 4) * torch.pi / 2
    angle = torch.arange(side)[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows = wave[:, None].expand(side, side, -1)
    columns = wave[None].expand(side, side, -1)
    return 0.5 * torch.cat([rows, columns], dim=2).reshape(1, side * side, dim)


def load_vit(path: str | Path) -> VisionTransformer:
    """The model of a safetensors file that ``training/scenes_vit.py`` wrote, float32, in eval mode.

    Args:
        path: the file; its metadata hold the configuration.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no configuration, so was not written by the training script.
    """
    model = VisionTransformer(ViTConfig(**read_config(path, "training/scenes_vit.py")))
    model.load_state_dict(load_file(path))
    return model.eval()


def read_config(path: str | Path, script: str) -> dict[str, Any]:
    """The configuration in the metadata of a safetensors file, lists as tuples.

    Args:
        path: the file.
        script: the training script that writes such files, for the messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no configuration.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}; train them with {script}")
    with safe_open(str(path), framework="pt") as file:
        config = (file.metadata() or {}).get("config")
        if config is None:
            raise ValueError(f"{path} has no 'config' in its metadata; it is not a file of {script}")
    sizes: dict[str, Any] = json.loads(config)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}


def scenes_vit(pretrained: bool = True) -> VisionTransformer:
    """The small denoising ViT that ships with the package, in eval mode.

    It learned to remove noise from the scenes of :mod:`captum_ultra.data`, without masks or labels;
    how, and how well its tokens find their objects, is in ``docs/scenes.md``.

    Args:
        pretrained: False for the same architecture with random weights.

    Returns:
        A :class:`VisionTransformer` for 64 x 64 images, 16 x 16 patch tokens and no CLS token.

    Example:
        >>> model = scenes_vit()
        >>> model.image_size, len(model.blocks) > 0, model.training
        (64, True, False)
    """
    weights = resources.files("captum_ultra.models") / "weights" / "scenes_vit.safetensors"
    with resources.as_file(weights) as path:
        model = load_vit(path)
    return model if pretrained else VisionTransformer(model.config).eval()
