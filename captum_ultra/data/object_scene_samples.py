"""Scenes with one object in the interfaces of the other data sets about one class."""

from __future__ import annotations

from captum_ultra.data.class_samples import (
    ClassificationDataset,
    ClassSample,
    LocalisationDataset,
    LocalisationSample,
)
from captum_ultra.data.object_scenes import WEAVES, ObjectScenes

__all__ = ["ObjectSceneClasses", "ObjectSceneMasks"]


class ObjectSceneClasses(ClassificationDataset):
    """Scenes with the class of their object.

    Args:
        scenes: the stretch of scenes; nothing is rendered until asked for.

    Example:
        >>> scenes = ObjectSceneClasses(ObjectScenes(2, seed=7))
        >>> scenes.names, scenes[1].image.shape, len(scenes.classes)
        (('object-scene-7-0', 'object-scene-7-1'), torch.Size([3, 64, 64]), 6)
    """

    def __init__(self, scenes: ObjectScenes) -> None:
        self.scenes, self.names, self.classes = scenes, _names(scenes), WEAVES

    def __getitem__(self, index: int) -> ClassSample:
        self.check_index(index)
        scene = self.scenes[index]
        return ClassSample(scene.image, scene.label, self.names[index])


class ObjectSceneMasks(LocalisationDataset):
    """Scenes with the mask and the class of their object.

    Args:
        scenes: the stretch of scenes; nothing is rendered until asked for.

    Example:
        >>> sample = ObjectSceneMasks(ObjectScenes(2, seed=7))[1]
        >>> sample.mask.shape, sample.mask.dtype
        (torch.Size([64, 64]), torch.bool)
    """

    def __init__(self, scenes: ObjectScenes) -> None:
        self.scenes, self.names, self.classes = scenes, _names(scenes), WEAVES

    def __getitem__(self, index: int) -> LocalisationSample:
        self.check_index(index)
        scene = self.scenes[index]
        return LocalisationSample(scene.image, scene.mask, self.names[index], scene.label)


def _names(scenes: ObjectScenes) -> tuple[str, ...]:
    return tuple(f"object-scene-{scenes.seed}-{index}" for index in range(len(scenes)))
