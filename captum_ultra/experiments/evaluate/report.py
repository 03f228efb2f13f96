"""An evaluation's results: as text, JSON, CSV and a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_ultra.experiments.evaluate.folder import versions
from captum_ultra.experiments.evaluate.rows import Row, as_csv
from captum_ultra.experiments.evaluate.study import Result, Study
from captum_ultra.io import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report"]


@dataclass(frozen=True, eq=False)
class Report:
    """What a study found on some images.

    Attributes:
        study: with its setting.
        identity: what the results depend on.
        of: how many images the data set has.
        results: by image, in the order of the evaluation.
        rows: the table.
    """

    study: Study[Any, Any]
    identity: dict[str, Any]
    of: int
    results: dict[str, Result]
    rows: list[Row]

    def __str__(self) -> str:
        """The table of measured and published numbers, below what was measured and how."""
        images = f"{len(self.results)} of {self.of} images"
        lines = [
            f"{self.study.setting.options.study}: {self.study.title}",
            self.study.subject(images),
            self.study.protocol,
            "",
            self.study.table(self.rows),
        ]
        notes = self.study.notes() if any(row.published is not None for row in self.rows) else []
        return "\n".join([*lines, *notes])

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain numbers and strings, ready for ``json.dump``."""
        return {
            "study": self.study.title,
            "protocol": self.study.protocol,
            "options": self.identity,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "images": len(self.results),
            "images_of_data_set": self.of,
            "rows": [row.to_dict() for row in self.rows],
            "notes": self.study.notes(),
            "results": self.results,
        }

    def figure(self) -> Figure:
        """The picture of the table; :func:`captum_ultra.insights.figures.save_figure` writes it."""
        return self.study.figure(self.rows, list(self.results.values()))

    def write(self, folder: Path) -> list[Path]:
        """Write report.txt, report.json, report.csv and report.png, each whole or not at all."""
        from captum_ultra.insights.figures import save_figure

        texts = {
            "report.txt": f"{self}\n",
            "report.json": json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n",
            "report.csv": as_csv(self.rows),
        }
        for name, text in texts.items():
            with written_whole(folder / name) as unfinished:
                unfinished.write_text(text)
        return [*(folder / name for name in texts), save_figure(self.figure(), folder / "report.png")]
