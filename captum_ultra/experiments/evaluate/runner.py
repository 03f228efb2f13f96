"""Image after image, each kept as soon as it is finished."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captum_ultra.attr.latents import LatentReader
from captum_ultra.data.samples import SegmentationDataset
from captum_ultra.experiments.evaluate.folder import claim, digest, versions, weights_digest
from captum_ultra.experiments.evaluate.inputs import (
    ModelInput,
    ModelInputs,
    check_data,
    chosen_images,
    load_subject,
    open_data,
)
from captum_ultra.experiments.evaluate.learned import LearnedScores, scores_by_name
from captum_ultra.experiments.evaluate.options import Options
from captum_ultra.experiments.evaluate.registry import find_study
from captum_ultra.experiments.evaluate.report import Report
from captum_ultra.experiments.evaluate.study import Setting
from captum_ultra.models.loader import LoadedModel

__all__ = ["evaluate"]


def evaluate(
    options: Options, folder: str | Path, root: str | Path | None = None, *, loaded: LoadedModel | None = None,
    device: str = "cpu", show_progress: bool = False,
) -> Report:  # fmt: skip
    """Run a study, or finish one that was interrupted, and write its report into the folder.

    Every finished image is a line of ``images.jsonl``; what is there is not computed again, and the report is that of
    an uninterrupted run. More images of the same options may be asked for later.

    Args:
        options: what is evaluated.
        folder: of this evaluation alone, made when missing.
        root: where the data set's archives were unpacked; None for scenes.
        loaded: a model that is loaded already, in place of the options' name for it; it stays on its device.
        device: of a model that is loaded by its name: "cpu", or what torch calls another one.
        show_progress: show progress bars with the remaining time.

    Returns:
        The table and what it was made of; its text is the printed report.

    Raises:
        ValueError: for options that do not fit, or a folder of other options; before any long computation.
        FileNotFoundError: for files of the data set that are missing.
        UnsupportedModelError: for models that cannot be explained faithfully.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> loaded = LoadedModel(model, "small", preprocess=lambda image: torch.zeros(1, 3, 16, 16))
        >>> report = evaluate(Options("ultra-tau", model="small", images=2), tempfile.mkdtemp(), loaded=loaded)
        >>> [row.at for row in report.rows][:3]
        [0.1, 0.2, 0.3]
    """
    folder, study_class = Path(folder), find_study(options.study)
    study_class.check(options)
    check_data(options, root)
    loaded = load_subject(options, device) if loaded is None else loaded
    prepare = ModelInput.of(loaded)
    data = open_data(options, root, prepare.side, options.split, options.scenes)
    learned = _learned(options, loaded, prepare, folder, root, show_progress)
    setting = _setting(options, loaded, data, prepare, learned)
    study_class.check_model(setting)
    identity = _identity(setting, data)
    store = claim(folder, identity)
    study = study_class(setting)

    numbers = chosen_images(options, data, options.images)
    left = [number for number in numbers if (data.names[number],) not in store]
    with tqdm(total=len(numbers), initial=len(numbers) - len(left), desc="images", disable=not show_progress) as bar:
        for number in left:
            sample = data[number]
            store.add((sample.name,), study.measure(prepare(sample.image), sample.labels, number))
            bar.update()
    results = {data.names[number]: store[data.names[number],] for number in numbers}
    report = Report(study, identity, len(data), results, study.rows(list(results.values())))
    report.write(folder)
    return report


def _learned(
    options: Options, loaded: LoadedModel, prepare: ModelInput, folder: Path, root: str | Path | None, progress: bool
) -> LearnedScores | None:
    """What trains ULTra_W where it is asked for, on the training part of the same data set; nothing is trained yet."""
    if options.score != "w":
        return None
    samples = options.training.samples
    data = open_data(options, root, prepare.side, options.train_split, samples)
    images = ModelInputs(data, chosen_images(options, data, samples), prepare)
    return LearnedScores(loaded.model, images, options.training, folder, progress)


def _setting(
    options: Options, loaded: LoadedModel, data: SegmentationDataset, prepare: ModelInput, learned: LearnedScores | None
) -> Setting:
    sample = data[0]
    x, (height, width) = prepare(sample.image), sample.labels.shape
    layer, depth = (LatentReader(loaded.model, each).number(x) for each in (options.layer, -1))
    scores = partial(scores_by_name, options.score, learned=learned)
    return Setting(options, loaded.model, layer, depth, len(data.classes), (height, width), scores)


def _identity(setting: Setting, data: SegmentationDataset) -> dict[str, Any]:
    """What an image's result depends on; scenes are named by their seed, which is among the options."""
    options, found = setting.options, versions()
    return {
        **options.identity(),
        "layer": setting.layer,
        "pixels": setting.pixels,
        "weights": weights_digest(setting.model),
        "names": None if options.data == "scenes" else digest("\n".join(data.names)),
        "captum_ultra": found["captum_ultra"],
        "torch": found["torch"],
    }
