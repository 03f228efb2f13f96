"""The public index of figures and pages, and the gallery that shows each figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import captum_ultra.insights as insights

DOCS = Path(__file__).parents[2] / "docs"
GALLERY = (DOCS / "figures.md").read_text()


@pytest.mark.parametrize("name", insights.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(insights, name)) and name in dir(insights)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'figure_of_everything'"):
        _ = insights.figure_of_everything  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", [name for name in insights.__all__ if name.endswith("_figure") and name != "save_figure"]
)
def test_every_figure_is_in_the_gallery(name: str) -> None:
    assert f"**`{name}`**" in GALLERY


def test_pictures_of_the_gallery_are_there_and_small() -> None:
    shown = set(re.findall(r"\]\(images/figures/(\w+\.png)\)", GALLERY))
    assert shown == {path.name for path in (DOCS / "images" / "figures").iterdir()}
    assert all((DOCS / "images" / "figures" / name).stat().st_size < 120_000 for name in shown)
