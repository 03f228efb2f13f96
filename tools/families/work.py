"""What a worker process does; cases are known to it by their names."""

from __future__ import annotations

from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from tools.families.judge import Line, judge


def names_with(part: str) -> list[str]:
    """Names of the cases that have this in their name or heading."""
    ensure_torchvision_imports()
    from tools.families.zoo import all_cases

    return [name for name, case in all_cases().items() if part.lower() in f"{case.group}: {name}".lower()]


def prepare() -> None:
    """A worker's start."""
    import torch

    torch.set_num_threads(1)
    ensure_torchvision_imports()
    import transformers

    transformers.logging.set_verbosity_error()


def judge_by_name(name: str) -> Line:
    from tools.families.zoo import all_cases

    return judge(all_cases()[name])
