"""Data: procedural scenes with exact masks, and documents whose evidence is known."""

from captum_ultra.data.facts import Document, Facts, write_document
from captum_ultra.data.object_scenes import WEAVES, ObjectScene, ObjectScenes, render_object_scene
from captum_ultra.data.scenes import SHAPES, Scene, Scenes, render_scene

__all__ = [
    "SHAPES",
    "WEAVES",
    "Document",
    "Facts",
    "ObjectScene",
    "ObjectScenes",
    "Scene",
    "Scenes",
    "render_object_scene",
    "render_scene",
    "write_document",
]
