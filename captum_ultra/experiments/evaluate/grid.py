"""Many rows as one table: a line a name, a column a metric."""

from __future__ import annotations

from collections.abc import Sequence

from captum_ultra.experiments.evaluate.rows import Row, aligned

__all__ = ["as_grid"]


def as_grid(rows: Sequence[Row], heading: str) -> str:
    """A table of fixed width; published numbers stand beside the metrics that have some.

    Below it stand what only one name has, and the metrics of which nothing is published.

    Args:
        rows: a name has at most one row of every metric.
        heading: of the names.

    Example:
        >>> from captum_ultra.intervals import Interval
        >>> found = Interval(61.25, 60, 62.5)
        >>> rows = [Row("GAE", "mIoU", found, published=61.56), Row("random", "mIoU", found)]
        >>> print(as_grid(rows, "method"))
        method  mIoU (%)              published
        GAE     61.25 [60.00, 62.50]  61.56
        random  61.25 [60.00, 62.50]  -
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    shared = [metric for metric in metrics if sum(row.metric == metric for row in rows) > 1]
    names = list(dict.fromkeys(row.name for row in rows if row.metric in shared))
    columns, missing = [[heading, *names]], []
    for metric in shared:
        found = {row.name: row for row in rows if row.metric == metric}
        columns.append([_title(found[next(iter(found))]), *(_cell(found.get(name)) for name in names)])
        if any(row.published is not None for row in found.values()):
            columns.append(["published", *(_published(found.get(name)) for name in names)])
        else:
            missing.append(metric)
    below = [f"{_title(row)} of {row.name}: {_cell(row)}" for row in rows if row.metric not in shared]
    if missing:
        which = "" if missing == shared else f": {', '.join(missing)}"
        below.append(f"not published for these data and this model{which}")
    return "\n".join([aligned(list(zip(*columns, strict=True))), *([""] if below else []), *below])


def _title(row: Row) -> str:
    return f"{row.metric} ({row.unit})" if row.unit else row.metric


def _cell(row: Row | None) -> str:
    return "-" if row is None else f"{row.number(row.measured.mean)} {row.ends}"


def _published(row: Row | None) -> str:
    return "-" if row is None or row.published is None else row.number(row.published)
