"""Scenes in the interface of the segmentation data sets."""

from __future__ import annotations

from captum_ultra.data.samples import SegmentationDataset, SegmentationSample
from captum_ultra.data.scenes import SHAPES, Scenes

__all__ = ["SceneSegmentation"]


class SceneSegmentation(SegmentationDataset):
    """Scenes with one label a pixel: the class of the shape, or the number of the object.

    The images of noisy scenes leave [0, 1], as those of :class:`captum_ultra.data.Scenes` do.

    Args:
        scenes: the stretch of scenes; nothing is rendered until asked for.
        instances: label every object by itself (0 the background, then nearest first), so that two
            disks are two regions; by default labels are classes.

    Example:
        >>> scenes = SceneSegmentation(Scenes(2, seed=7))
        >>> scenes.names, scenes[1].labels.shape, len(scenes.classes)
        (('scene-7-0', 'scene-7-1'), torch.Size([64, 64]), 7)
    """

    def __init__(self, scenes: Scenes, *, instances: bool = False) -> None:
        self.scenes, self.instances = scenes, instances
        self.names = tuple(f"scene-{scenes.seed}-{index}" for index in range(len(scenes)))
        self.classes = ("background", *(f"object {k}" for k in range(1, 6))) if instances else ("background", *SHAPES)

    def __getitem__(self, index: int) -> SegmentationSample:
        self.check_index(index)
        scene = self.scenes[index]
        return SegmentationSample(scene.image, scene.instances if self.instances else scene.labels, self.names[index])
