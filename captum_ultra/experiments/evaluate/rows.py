"""Measured numbers beside published ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captum_ultra.intervals import Interval

__all__ = ["Row", "aligned", "as_csv", "as_text", "percent"]

_COLUMNS = ("row", "at", "metric", "unit", "measured", "low", "high", "published")


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: whose it is: ULTra_S, ULTra_E or ULTra_W, or a method.
        metric: what it is.
        measured: with its interval over images, in the unit of the published number.
        published: None where nothing comparable is.
        at: the place on the axis of a study that sweeps; None for a number that belongs to no place.
        unit: "%" or empty.
        digits: after the point, where it is printed as text.
    """

    name: str
    metric: str
    measured: Interval
    published: float | None = None
    at: float | None = None
    unit: str = "%"
    digits: int = 2

    def number(self, value: float) -> str:
        """A value of this row as text."""
        return f"{value:.{self.digits}f}"

    @property
    def ends(self) -> str:
        """The interval as text."""
        low, high = self.measured.low, self.measured.high
        return f"[{self.number(low)}, {self.number(high)}]" if low == low else "[one image]"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; NaN becomes None."""
        ends = {each: getattr(self.measured, each) for each in ("mean", "low", "high")}
        mean, low, high = (None if end != end else end for end in ends.values())
        values = (self.name, self.at, self.metric, self.unit, mean, low, high, self.published)
        return dict(zip(_COLUMNS, values, strict=True))


def percent(interval: Interval) -> Interval:
    """An interval of shares as one of percent.

    Example:
        >>> percent(Interval(0.5, 0.25, 0.75))
        Interval(mean=50.0, low=25.0, high=75.0)
    """
    return Interval(100 * interval.mean, 100 * interval.low, 100 * interval.high)


def as_csv(rows: Sequence[Row]) -> str:
    """All rows, with a line of column names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.to_dict() for row in rows)
    return text.getvalue()


def as_text(rows: Sequence[Row], axis: str = "", heading: str = "score") -> str:
    """A table of fixed width; ``axis`` names the column of places, ``heading`` that of the rows' names.

    Example:
        >>> print(as_text([Row("ULTra_S", "U.ACC", Interval(61.25, 60.0, 62.5), published=60.8)]))
        score    metric  measured, 95 % interval  published
        ULTra_S  U.ACC   61.25 % [60.00, 62.50]   60.80 %
    """
    cells = [[heading, axis, "metric", "measured, 95 % interval", "published"]]
    cells += [
        [row.name, "" if row.at is None else f"{row.at:g}", row.metric, _measured(row), _published(row)] for row in rows
    ]
    return aligned(cells if axis else [[line[0], *line[2:]] for line in cells])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Lines of cells, one below the other in columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def _measured(row: Row) -> str:
    return f"{row.number(row.measured.mean)}{_unit(row)} {row.ends}"


def _published(row: Row) -> str:
    return "not published" if row.published is None else f"{row.number(row.published)}{_unit(row)}"


def _unit(row: Row) -> str:
    return f" {row.unit}" if row.unit else ""
