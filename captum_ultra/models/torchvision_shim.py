"""Makes ``import torchvision`` work beside a CPU build of torch.

The torchvision wheel of the package registry is compiled for CUDA. Beside a CPU build of torch its
compiled operators cannot be loaded, which torchvision tolerates; but it then attaches a shape
function to ``torchvision::nms``, an operator that nobody declared, and the import fails with
``operator torchvision::nms does not exist``. ``import timm``, ``import open_clip`` and much of
transformers fail with it, although none of them needs that operator to run a vision transformer.

Declaring the two schemas first is enough. The operators stay without a kernel: calling
non-maximum suppression still raises, everything else works.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")

# The declarations live as long as this object does.
_library: torch.library.Library | None = None


def ensure_torchvision_imports() -> bool:
    """Declare the operators that torchvision expects, if its import would fail without them.

    Nothing happens when torchvision is not installed, already imported, or has compiled operators
    that load. torchvision itself is not imported. Calling the function again is free.

    Returns:
        True when this process runs on declared (kernel-less) operators, False otherwise.

    Example:
        >>> ensure_torchvision_imports() == ensure_torchvision_imports()
        True
    """
    global _library
    if _library is not None:
        return True
    if "torchvision" in sys.modules or _declared():
        return False
    spec = importlib.util.find_spec("torchvision")
    if spec is None or _compiled_operators_load(spec):
        return False
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        _library.define(operator + _SCHEMA)
    return True


def _declared() -> bool:
    """Whether somebody (a working torchvision, or the same remedy elsewhere) declared the operators."""
    return hasattr(torch.ops.torchvision, _OPERATORS[0])


def _compiled_operators_load(spec: importlib.machinery.ModuleSpec) -> bool:
    """Load the compiled operators just as torchvision will; loading a library twice is harmless."""
    for folder in spec.submodule_search_locations or ():
        for library in sorted(Path(folder).glob("_C*")):
            if library.suffix not in {".so", ".pyd", ".dylib"}:
                continue
            try:
                torch.ops.load_library(str(library))
            except OSError:
                continue
            if _declared():
                return True
    return False
