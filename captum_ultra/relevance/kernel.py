"""A small compiled kernel for long inputs on CPUs: what happens to a tile of attention between its matrix products.

Of dA, A and the relevance rows it makes ``dA * A``, its row sums, what the rule of ULTra adds to the relevance, and the
gradient of the scores in one pass over a tile, where torch needs five. It is built on first use by torch's extension
loader and kept in torch's cache of extensions. Without a compiler, and for everything else, torch does the same
(:mod:`captum_ultra.relevance.tiles`). ``CAPTUM_ULTRA_KERNEL=0`` switches it off.
"""

from __future__ import annotations

import ctypes
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.rules import Rule, gradient_weighted

__all__ = ["LONG", "one_pass", "status", "suits"]

LONG = 512  # tokens from which on it pays to have it built
_STALE = 300  # seconds after which a lock in the cache is that of a build that was killed
_FLAGS = ["-O3", "-fopenmp"]


def suits(values: Tensor, rule: Rule | None, tokens: int) -> bool:
    """Whether the kernel can do a layer's tiles, and is there."""
    fits = values.device.type == "cpu" and values.dtype == torch.float32 and rule is gradient_weighted
    return fits and tokens >= LONG and not isinstance(_tile(), str)


def one_pass(gradient: Tensor, probabilities: Tensor, above: Tensor, added: Tensor, wanted: bool) -> None:
    """Turn dA [1, m, T, n] into the gradient of the scores, in place, and add to the relevance [1, T, n].

    Args:
        gradient: contiguous; what becomes of it is of no use where it is not ``wanted``.
        probabilities: [1, m, n], contiguous.
        above: relevance of the query rows [1, T, m].
        added: [1, T, n].
        wanted: whether the gradient of the scores is asked for.
    """
    _, m, targets, n = gradient.shape
    above = above.contiguous()
    failed = _tile()(
        gradient.data_ptr(), probabilities.data_ptr(), above.data_ptr(), m, added.data_ptr(), added.stride(1),
        m, targets, n, int(wanted), torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError(f"no memory for the sums of a tile of {m} rows, {targets} targets and {n} keys")


def status() -> str:
    """What works on the tiles of long inputs, and why it is not the kernel; built for that where it was not yet."""
    found = _tile()
    return f"torch ({found})" if isinstance(found, str) else f"the compiled kernel, from {LONG} tokens on"


@cache
def _tile() -> Any:
    """The kernel, or why there is none."""
    if os.environ.get("CAPTUM_ULTRA_KERNEL", "1") == "0":
        return "switched off by CAPTUM_ULTRA_KERNEL=0"
    try:
        function = ctypes.CDLL(_built()).captum_ultra_tile
    except Exception as error:  # whatever a compiler, a cache or a loader may say
        return f"the compiled kernel cannot be built: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    pointer, size = ctypes.c_void_p, ctypes.c_long
    function.argtypes = [
        pointer, pointer, pointer, size, pointer, size, size, size, size, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    return function


def _built() -> str:
    from torch.utils import cpp_extension

    name = "captum_ultra_kernel"
    folder = Path(cpp_extension._get_build_directory(name, verbose=False))
    lock = folder / "lock"
    if lock.exists() and time.time() - lock.stat().st_mtime > _STALE:
        lock.unlink()  # torch would wait for it for ever
    source = Path(__file__).with_name("kernel.cpp")
    cpp_extension.load(
        name, [str(source)], extra_cflags=_FLAGS, extra_ldflags=["-fopenmp"], build_directory=str(folder),
        is_python_module=False, verbose=False,
    )  # fmt: skip
    return str(folder / f"{name}{cpp_extension.LIB_EXT}")
