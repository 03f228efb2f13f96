"""The page itself: maps of one or several models, in one file that needs no network."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from captum_ultra.insights.explorer.images import ImageMaps
from captum_ultra.insights.explorer.packing import LEVELS, Blob
from captum_ultra.insights.explorer.texts import TextMaps

__all__ = ["Explorer", "check_page"]

_LARGE = 6_000_000  # bytes of a page; above, maps are stored in coarser steps
_FRAME_HEIGHT = 760  # pixels in a notebook


def check_page(path: str | Path) -> Path:
    """The path of a page, if its suffix says so.

    Raises:
        ValueError: for a suffix other than .html.

    Example:
        >>> check_page("page.pdf")
        Traceback (most recent call last):
        ...
        ValueError: cannot write 'page.pdf': the explorer is a page; give a name that ends in .html
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"cannot write {path.name!r}: the explorer is a page; give a name that ends in .html")
    return path


@dataclass(frozen=True, eq=False)
class Explorer:
    """A page on which a reader points at tokens and sees their explanations; see :func:`explore`.

    Attributes:
        models: what is shown of each model; all of images, or all of texts.
        views: what stands side by side, (number of the model, label of the method).
        title: of the page.

    Example:
        >>> import torch
        >>> from captum_ultra.insights import explore
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> page = explore(model, torch.randn(1, 3, 16, 16))
        >>> page.models[0].grid, page.models[0].layers
        ((4, 4), (1, 2))
        >>> page.to_html().splitlines()[0]
        '<!doctype html>'
    """

    models: tuple[ImageMaps | TextMaps, ...]
    views: tuple[tuple[int, str], ...]
    title: str

    @classmethod
    def of(cls, models: Sequence[ImageMaps | TextMaps], title: str, compare: Sequence[str] | None = None) -> Explorer:
        """A page of maps that are there already: a view for each model, or for each of the methods to compare.

        Raises:
            ValueError: for no model, images beside texts, or a method that is not there.
        """
        if not models or len({each.kind for each in models}) != 1:
            raise ValueError("models: at least one is needed, all of images or all of texts")
        views = []
        for number, model in enumerate(models):
            for label in compare or model.methods[:1]:
                if label not in model.methods:
                    raise ValueError(f"compare: there is no method {label!r}; there are {', '.join(model.methods)}")
                views.append((number, label))
        return cls(tuple(models), tuple(views), title)

    def to_html(self) -> str:
        """The page: HTML, style, script, picture and numbers in one text."""
        from jinja2 import Environment, StrictUndefined

        template = resources.files("captum_ultra.insights.explorer").joinpath("page.html").read_text(encoding="utf-8")
        told, numbers = self._packed()
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        return environment.from_string(template).render(
            title=self.title, numbers=numbers,
            # Inside a script element no entity is decoded; what could end the element is escaped as JSON allows.
            told=json.dumps(told).replace("<", "\\u003c"),
        )  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write the page, in UTF-8.

        Raises:
            ValueError: for a suffix other than .html.
        """
        from captum_ultra.io import written_whole

        path = check_page(path)
        with written_whole(path) as unfinished:
            unfinished.write_text(self.to_html(), encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that neither its style nor its script touches the notebook."""
        return (
            f'<iframe title="{escape(self.title)}" srcdoc="{escape(self.to_html())}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {_FRAME_HEIGHT}px; border: 0"></iframe>'
        )

    def _packed(self) -> tuple[dict[str, Any], str]:
        """What the page is told, and its numbers, in the finest steps that keep it small."""
        for levels in LEVELS[self.models[0].kind]:
            blob = Blob()
            models = [each.packed(blob, levels) for each in self.models]
            numbers = blob.packed()
            if len(numbers) <= _LARGE:
                break
        else:
            warnings.warn(
                f"the page takes {len(numbers) / 1e6:.0f} MB; choose fewer layers or methods to make it smaller",
                UserWarning,
                stacklevel=3,
            )
        views = [{"model": number, "method": self.models[number].methods.index(label)} for number, label in self.views]
        return {"kind": self.models[0].kind, "title": self.title, "models": models, "views": views}, numbers
