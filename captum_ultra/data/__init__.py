"""Data: procedural scenes with exact masks."""

from captum_ultra.data.scenes import SHAPES, Scene, Scenes, render_scene

__all__ = ["SHAPES", "Scene", "Scenes", "render_scene"]
