"""ULTra_W of the scenes' model, trained on scenes of the training stream.

    python -m captum_ultra.experiments.scene_ultra_w --layers 5 6 --output out/scene_segmentation

One file a layer, which ``captum_ultra.experiments.scene_segmentation`` reads; what is there is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from captum_ultra.attr.scores import Score
from captum_ultra.data import Scenes
from captum_ultra.models.vit import VisionTransformer, scenes_vit
from captum_ultra.segmentation import LatentTokenSegmenter
from captum_ultra.segmentation.ultra_w import UltraW
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings
from captum_ultra.segmentation.ultra_w_training import train_ultra_w

__all__ = ["SETTINGS", "learned_score"]

# Maps of every training scene cost seconds, further epochs next to nothing: few scenes, as many steps as one pass
# over the paper's 256 images takes at 8 a step, and regions by landmarks. Scenes have 4 to 6 regions; 5 needs no mask.
SETTINGS = UltraWSettings(samples=32, epochs=8, n_clusters=5)
LANDMARKS = 64  # of 256 tokens


def learned_score(
    model: VisionTransformer, layer: int, folder: Path, settings: UltraWSettings = SETTINGS, *, progress: bool = False
) -> UltraW:
    """ULTra_W of one layer: read from the folder, or trained and written there.

    Args:
        model: of the scenes.
        layer: number of blocks passed, from 1.
        folder: holds one file a layer; an interrupted training leaves its state there and goes on from it.
        settings: of the training; no mask is used, and the scenes are clean.
        progress: show a progress bar.

    Raises:
        ValueError: if the file in the folder was trained with other settings.
    """
    path = folder / f"ultra_w-layer{layer}.safetensors"
    if path.is_file():
        found = UltraW.load(path)
        expected = settings.to_dict()
        if {name: found.settings.get(name) for name in expected} != expected:
            raise ValueError(f"{path} was trained with {found.settings}, not with {expected}; give another folder")
        return found
    scenes = Scenes(settings.samples, seed=0, size=model.image_size, split="train")
    images = torch.stack([model.preprocess(scenes[index].image) for index in range(len(scenes))])

    def segment(batch: Tensor, score: Score) -> Tensor:
        segmenter = LatentTokenSegmenter(model, layer, score, settings.n_clusters, landmarks=LANDMARKS)
        return segmenter.segment(batch).labels

    checkpoint = path.with_suffix(".checkpoint")
    found = train_ultra_w(
        model, images, layer, settings, segment=segment, checkpoint=checkpoint, show_progress=progress
    )
    found.save(path)
    checkpoint.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--output", type=Path, default=Path("out/scene_segmentation"))
    args = parser.parse_args()
    model = scenes_vit()
    for layer in args.layers:
        score = learned_score(model, layer, args.output, progress=True)
        print(f"layer {layer}: loss {score.losses[0]:.4g} in the first step, {score.losses[-1]:.4g} in the last")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
