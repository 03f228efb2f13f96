"""torchmetrics' base class, or a word about where it comes from."""

from __future__ import annotations

from captum_ultra.errors import MissingExtraError
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

__all__ = ["Metric"]

# torchmetrics imports torchvision where that is installed.
ensure_torchvision_imports()

try:
    from torchmetrics import Metric
except ModuleNotFoundError as error:
    if error.name != "torchmetrics":
        raise
    raise MissingExtraError(
        "torchmetrics is not installed; pip install 'captum_ultra[segmentation]' brings it."
    ) from error
