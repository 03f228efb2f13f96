"""The state in which a model is explained, and that only one explanation of it runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

__all__ = ["explaining"]

_ALL = threading.Lock()
_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


@contextmanager
def explaining(model: nn.Module, gradients: bool = True) -> Iterator[None]:
    """Within: evaluation mode and constant parameters, so that a run is reproducible and keeps no weight gradients.

    Explanations of one model wait for each other. Modes and flags are restored one by one, after exceptions too; a
    model in evaluation mode goes on serving other threads meanwhile.

    Args:
        model: the module whose flags and parameters are guarded.
        gradients: whether operations are recorded for gradients.
    """
    with _ALL:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock, torch.inference_mode(False), torch.set_grad_enabled(gradients), _frozen_in_eval_mode(model):
        yield


@contextmanager
def _frozen_in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    # By name: libraries that offload weights put other parameters in their place while the model runs.
    trainable = [
        (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
    try:
        for module in training:
            module.training = False
        for module, name in trainable:
            module.get_parameter(name).requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for module, name in trainable:
            module.get_parameter(name).requires_grad_(True)
