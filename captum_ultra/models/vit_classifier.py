"""A plain vision transformer that names the two hues of a scene's object, shipped with the package.

The trunk is that of :mod:`captum_ultra.models.vit` with a CLS token; a linear layer reads the classes off the
normalised CLS token. The model has seen images and their classes, never a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from captum_ultra.models.vit import ViTConfig, ViTTrunk, read_config

__all__ = ["ViTClassifier", "ViTClassifierConfig", "load_vit_classifier", "scenes_classifier"]

# Those of `captum_ultra.data.WEAVES`; readers of data sets need this room, so that it cannot need theirs.
_CLASSES = ("red-green", "red-blue", "red-yellow", "green-blue", "green-yellow", "blue-yellow")


@dataclass(frozen=True)
class ViTClassifierConfig(ViTConfig):
    """Sizes as in :class:`captum_ultra.models.vit.ViTConfig`, and the names of the classes."""

    cls_token: bool = True
    classes: tuple[str, ...] = _CLASSES


class ViTClassifier(ViTTrunk):
    """A ViT that maps a normalised image [B, 3, H, W] to logits [B, classes].

    Attributes:
        classes: their names.
        num_classes: how many there are.
        image_size: height and width in pixels.
        patch_size: height and width of a patch in pixels.
        num_prefix_tokens: 1, the CLS token; the patches follow row by row.
        blocks: the residual blocks.

    Args:
        config: sizes and classes; see :class:`ViTClassifierConfig`.

    Raises:
        ValueError: for a configuration without a CLS token or classes, an image that is not a whole number of
            patches, or a ``dim`` that is none of heads.

    Example:
        >>> import torch
        >>> model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=1, heads=2))
        >>> model(model.preprocess(torch.rand(2, 3, 16, 16))).shape, model.classes[:2]
        (torch.Size([2, 6]), ('red-green', 'red-blue'))
    """

    def __init__(self, config: ViTClassifierConfig | None = None) -> None:
        config = config or ViTClassifierConfig()
        if not config.cls_token:
            raise ValueError("cls_token is False; the classes are read off the CLS token, so leave it True")
        if not config.classes:
            raise ValueError("classes is empty; name at least one class")
        super().__init__(config)
        self.classes = config.classes
        self.num_classes = len(config.classes)
        self.head = nn.Linear(config.dim, self.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.forward_features(x)[:, 0])
        return logits


def load_vit_classifier(path: str | Path) -> ViTClassifier:
    """The model of a safetensors file that ``training/scenes_classifier.py`` wrote, float32, in eval mode.

    Args:
        path: the file; its metadata hold the configuration.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no configuration, so was not written by the training script.
    """
    model = ViTClassifier(ViTClassifierConfig(**read_config(path, "training/scenes_classifier.py")))
    model.load_state_dict(load_file(path))
    return model.eval()


def scenes_classifier(pretrained: bool = True) -> ViTClassifier:
    """The small classifier that ships with the package, in eval mode.

    It learned which two hues meet in the one object of the scenes of :class:`captum_ultra.data.ObjectScenes`; how, and
    what it looks at, is in ``docs/classifier.md``.

    Args:
        pretrained: False for the same architecture with random weights.

    Returns:
        A :class:`ViTClassifier` for 64 x 64 images: a CLS token, 16 x 16 patch tokens, 6 classes.

    Example:
        >>> model = scenes_classifier(pretrained=False)
        >>> model.image_size, model.num_classes, model.training
        (64, 6, False)
    """
    if not pretrained:
        return ViTClassifier().eval()
    weights = resources.files("captum_ultra.models") / "weights" / "scenes_classifier.safetensors"
    with resources.as_file(weights) as path:
        return load_vit_classifier(path)
