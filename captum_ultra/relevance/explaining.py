"""The state in which a model is explained, and that explanations of one model wait for each other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from captum_ultra.relevance.constants import Constants
from captum_ultra.relevance.uncompiled import uncompiled

__all__ = ["explaining"]

_TURN = threading.Condition()
_HELD: Counter[nn.Module] = Counter()  # module -> explanations that it takes part in
_EXPLAINING: Counter[int] = Counter()  # thread -> explanations that it is in, one inside the other
_TRAINING: dict[nn.Module, Any] = {}  # modules that were in training mode, with their hooks


@contextmanager
def explaining(model: nn.Module, gradients: bool = True) -> Iterator[None]:
    """Within: evaluation mode, constant parameters, and code as it is written, so that a run is reproducible.

    Explanations of models that share modules wait for each other. A model in evaluation mode is not changed, and goes
    on serving other threads meanwhile; of one in training mode, other threads wait for the modules that were training.
    Modes are restored after exceptions too.

    Args:
        model: the module that is run.
        gradients: whether operations are recorded for gradients.

    Example:
        >>> model = nn.Dropout()
        >>> with explaining(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    with (
        _held_in_evaluation(list(model.modules())), torch.inference_mode(False), torch.set_grad_enabled(gradients),
        uncompiled(), Constants(model),
    ):  # fmt: skip
        yield


@contextmanager
def _held_in_evaluation(modules: list[nn.Module]) -> Iterator[None]:
    thread = threading.get_ident()
    with _TURN:
        # Who explains already does not wait, so that nobody ever waits for one who waits.
        if thread not in _EXPLAINING:
            _TURN.wait_for(lambda: _HELD.keys().isdisjoint(modules))
        try:
            _EXPLAINING[thread] += 1
            _HELD.update(modules)
            for module in modules:
                if module.training:
                    _TRAINING[module] = module.register_forward_pre_hook(_wait_for_training_mode, prepend=True)
                    module.training = False
        except BaseException:
            _release(thread, modules)
            raise
    try:
        yield
    finally:
        with _TURN:
            _release(thread, modules)


def _release(thread: int, modules: list[nn.Module]) -> None:
    _EXPLAINING[thread] -= 1
    _HELD.subtract(modules)
    for module in modules:
        if _HELD[module] <= 0:
            del _HELD[module]
            if module in _TRAINING:
                module.training = True
                _TRAINING.pop(module).remove()
    if not _EXPLAINING[thread]:
        del _EXPLAINING[thread]
    _TURN.notify_all()


def _wait_for_training_mode(module: nn.Module, args: Any) -> None:
    """Where another thread runs a module whose mode an explanation has changed."""
    if threading.get_ident() in _EXPLAINING or torch._C._current_graph_task_id() != -1:
        return  # an explanation of its own, or a backward pass, for which the explanation may be waiting
    with _TURN:
        _TURN.wait_for(lambda: module not in _HELD)
