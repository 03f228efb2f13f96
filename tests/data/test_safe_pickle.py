"""Plain pickles of any Python are read; one that would run something is refused before it does."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captum_ultra.data.safe_pickle import read_plain_pickle
from tests.data.class_files import python2_pickle

PLAIN = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2], b"name": b"\xe9 \x00"}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_plain_data_of_python_3(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(PLAIN, protocol))
    same(read_plain_pickle(tmp_path / "a"))


def test_plain_data_of_python_2(tmp_path: Path) -> None:
    content = python2_pickle(PLAIN)
    assert b"numpy.core.multiarray" in content and b"_codecs" not in content
    (tmp_path / "a").write_bytes(content)
    same(read_plain_pickle(tmp_path / "a"))


class Runs:
    def __init__(self, function: Any, argument: Any) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, eval, getattr, np.load], ids=lambda each: each.__name__)
def test_nothing_is_run(function: Any, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "a").write_bytes(pickle.dumps({b"data": Runs(function, str(proof))}))
    with pytest.raises(ValueError, match=r"a is damaged, or no plain pickle: it asks for "):
        read_plain_pickle(tmp_path / "a")
    assert not proof.exists()


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_damaged_files_are_named(keep: int, tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps(PLAIN)[:keep])
    with pytest.raises(ValueError, match="batch is damaged"):
        read_plain_pickle(tmp_path / "batch")
    with pytest.raises(FileNotFoundError):
        read_plain_pickle(tmp_path / "none")


def same(found: Any) -> None:
    assert found.keys() == PLAIN.keys()
    assert np.array_equal(found[b"data"], PLAIN[b"data"]) and found[b"data"].dtype == np.uint8
    assert found[b"labels"] == PLAIN[b"labels"] and found[b"name"] == PLAIN[b"name"]
