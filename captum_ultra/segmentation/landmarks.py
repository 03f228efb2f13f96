"""Tokens that stand for all tokens of a large grid."""

from __future__ import annotations

__all__ = ["regular_landmarks"]


def regular_landmarks(grid: tuple[int, int], most: int) -> list[int]:
    """At most so many patches of a (rows, columns) grid, spread evenly; all of them if they are no more.

    A landmark's map covers the whole image, so the other tokens need no landmark to be assigned to: their
    pixels go to the landmarks' clusters as all pixels do. What is lost is a region too small to hold one.

    Returns:
        Numbers of patches, row by row, in order.

    Raises:
        ValueError: for fewer than one landmark.

    Example:
        >>> regular_landmarks((4, 4), most=5)
        [5, 7, 13, 15]
    """
    rows, columns = grid
    if most < 1:
        raise ValueError(f"most={most}: at least one landmark is needed")
    if most >= rows * columns:
        return list(range(rows * columns))
    across, down = max(
        ((min(columns, most // down), down) for down in range(1, min(rows, most) + 1)),
        # The coarser of the two spacings decides how small a region may be; then the number.
        key=lambda each: (-max(columns / each[0], rows / each[1]), each[0] * each[1]),
    )
    return [y * columns + x for y in _spread(rows, down) for x in _spread(columns, across)]


def _spread(length: int, count: int) -> list[int]:
    """The middles of ``count`` equal stretches of a line of ``length`` places."""
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]
