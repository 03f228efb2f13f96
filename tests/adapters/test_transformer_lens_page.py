"""The code on the page about TransformerLens runs, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from captum_ultra import LatentTokenAttribution

PAGE = Path(__file__).parents[2] / "docs" / "transformer_lens.md"


def test_the_page_runs() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    model, tokens = names["model"], names["tokens"]
    plain = LatentTokenAttribution(model).attribute(tokens, token=-1, layer=3)
    torch.testing.assert_close(names["rows"], plain)
    assert names["every"].shape == (1, 6, 6)
    assert not torch.allclose(names["changed"], LatentTokenAttribution(model).attribute(tokens, token=-1, layer=4))
    torch.testing.assert_close(names["cache"]["relevance", 2], plain)
