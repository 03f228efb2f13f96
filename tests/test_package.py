"""What importing the package costs, and what an installed package contains."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata, resources

CORE = {"torch", "captum", "lazy_loader", "numpy", "tqdm", "matplotlib", "safetensors", "typer", "pillow", "jinja2"}

LIGHT = ("captum_ultra", "captum_ultra.cli", "captum_ultra.models.loader")
HEAVY = ("timm", "transformers", "open_clip", "torchvision", "transformer_lens", "scipy", "sklearn", "pandas")


def python(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout


def modules_after(code: str) -> set[str]:
    return set(json.loads(python(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")))


def test_importing_brings_nothing_beyond_captum() -> None:
    added = modules_after(f"import {', '.join(LIGHT)}") - modules_after("import torch, captum.attr")
    assert not {name.split(".")[0] for name in added} & set(HEAVY)
    assert "matplotlib.pyplot" not in added


def test_importing_is_quick_beside_torch_and_captum() -> None:
    """Measured in one process, so that other work on the machine slows both parts alike."""
    base, own = python(
        "from time import perf_counter as now\n"
        "start = now(); import torch, captum.attr\n"
        "middle = now(); import captum_ultra\n"
        "print(middle - start, now() - middle)"
    ).split()
    assert float(own) < 0.3 * float(base) + 0.1


def test_the_core_requirements_are_enough() -> None:
    python(f"import sys\nfor name in {HEAVY}: sys.modules[name] = None\nimport {', '.join(LIGHT)}")


def test_version_is_that_of_the_metadata() -> None:
    import captum_ultra

    assert captum_ultra.__version__ == metadata.version("captum_ultra")


def test_requirements_are_the_core_ones() -> None:
    declared = [line for line in metadata.requires("captum_ultra") or [] if "extra ==" not in line]
    names = {line.split(";")[0].split(">")[0].split("=")[0].strip().lower() for line in declared}
    assert names == CORE


def test_extras_are_declared() -> None:
    extras = set(metadata.metadata("captum_ultra").get_all("Provides-Extra") or [])
    wanted = {"timm", "transformers", "open_clip", "transformer_lens", "text", "segmentation", "all", "test", "docs"}
    assert wanted <= {extra.replace("-", "_") for extra in extras}


def test_types_and_weights_are_shipped() -> None:
    package = resources.files("captum_ultra")
    assert package.joinpath("py.typed").is_file() and package.joinpath("__init__.pyi").is_file()
    for file in ("scenes_vit.safetensors", "facts_llama/model.safetensors", "facts_llama/tokenizer.json"):
        assert package.joinpath("models", "weights", *file.split("/")).is_file()
