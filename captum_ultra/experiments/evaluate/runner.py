"""Image after image, each kept as soon as it is finished."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from captum_ultra.experiments.evaluate.folder import claim
from captum_ultra.experiments.evaluate.inputs import chosen_images, load_subject
from captum_ultra.experiments.evaluate.options import StudyOptions
from captum_ultra.experiments.evaluate.registry import check_options, find_study
from captum_ultra.experiments.evaluate.report import Report
from captum_ultra.models.loader import LoadedModel

__all__ = ["evaluate"]


def evaluate(
    options: StudyOptions, folder: str | Path, root: str | Path | None = None, *, loaded: LoadedModel | None = None,
    device: str = "cpu", show_progress: bool = False,
) -> Report:  # fmt: skip
    """Run a study, or finish one that was interrupted, and write its report into the folder.

    Every finished image is a line of ``images.jsonl``; what is there is not computed again, and the report is that of
    an uninterrupted run. More images of the same options may be asked for later.

    Args:
        options: what is evaluated, in the class that the study's family takes.
        folder: of this evaluation alone, made when missing.
        root: where the data set's archives were unpacked; None for scenes.
        loaded: a model that is loaded already, in place of the options' name for it; it stays on its device.
        device: of a model that is loaded by its name: "cpu", or what torch calls another one.
        show_progress: show progress bars with the remaining time.

    Returns:
        The table and what it was made of; its text is the printed report.

    Raises:
        TypeError: for the options of another family of studies.
        ValueError: for options that do not fit, or a folder of other options; before any long computation.
        FileNotFoundError: for files of the data set that are missing.
        UnsupportedModelError: for models that cannot be explained faithfully.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_ultra.experiments.evaluate import Options
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> loaded = LoadedModel(model, "small", preprocess=lambda image: torch.zeros(1, 3, 16, 16))
        >>> report = evaluate(Options("ultra-tau", model="small", images=2), tempfile.mkdtemp(), loaded=loaded)
        >>> [row.at for row in report.rows][:3]
        [0.1, 0.2, 0.3]
    """
    folder, study_class = Path(folder), find_study(options.study)
    check_options(options, study_class)
    study_class.check_data(options, root)
    loaded = load_subject(options, device) if loaded is None else loaded
    setting = study_class.setting_for(options, loaded, root, folder, show_progress)
    identity, names = setting.identity(), setting.data.names
    store = claim(folder, identity)
    study = study_class(setting)

    numbers = chosen_images(options, names, options.images)
    left = [number for number in numbers if (names[number],) not in store]
    with tqdm(total=len(numbers), initial=len(numbers) - len(left), desc="images", disable=not show_progress) as bar:
        for number in left:
            store.add((names[number],), study.result_of(setting.data[number], number))
            bar.update()
    results = {names[number]: store[names[number],] for number in numbers}
    report = Report(study, identity, len(names), results, study.rows(list(results.values())))
    report.write(folder)
    return report
