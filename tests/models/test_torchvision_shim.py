"""Importing torchvision beside a build of torch that its compiled operators do not fit."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    """Run in a fresh interpreter: what is imported there is imported for the first time."""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_torchvision_and_timm_import_afterwards() -> None:
    run(
        "from captum_ultra.models.torchvision_shim import ensure_torchvision_imports as ensure\n"
        "import sys\n"
        "assert ensure() == ensure()\n"
        "assert 'torchvision' not in sys.modules, 'the shim itself imports nothing'\n"
        "import timm, torchvision\n"
        "torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16)\n"
    )


def test_an_import_that_failed_before_succeeds_afterwards() -> None:
    run(
        "import contextlib\n"
        "with contextlib.suppress(RuntimeError):\n"
        "    import torchvision\n"
        "from captum_ultra.models.torchvision_shim import ensure_torchvision_imports\n"
        "ensure_torchvision_imports()\n"
        "import torchvision\n"
    )


def test_nothing_is_declared_without_torchvision() -> None:
    code = (
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'torchvision' else find(name, *rest)\n"
        "from captum_ultra.models.torchvision_shim import ensure_torchvision_imports\n"
        "import torch\n"
        "print(ensure_torchvision_imports(), hasattr(torch.ops.torchvision, 'nms'))\n"
    )
    assert run(code) == "False False"


def test_working_operators_are_left_alone() -> None:
    code = (
        "import torch\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from captum_ultra.models.torchvision_shim import ensure_torchvision_imports\n"
        "print(ensure_torchvision_imports())\n"
    )
    assert run(code) == "False"
