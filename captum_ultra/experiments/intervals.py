"""Intervals over images, under the name that experiments have used; see :mod:`captum_ultra.intervals`."""

from captum_ultra.intervals import Interval, bootstrap

__all__ = ["Interval", "bootstrap"]
