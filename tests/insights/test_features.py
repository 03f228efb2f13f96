"""Features and samples: what users of Captum Insights bring, and how a dataset is read."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from captum_ultra.insights.features import Batch, ImageFeature, TextFeature, as_features
from captum_ultra.insights.visualizer_pictures import at_most, shown_image, shown_text
from captum_ultra.insights.visualizer_samples import Sample, Samples


class CaptumImage:
    """What captum's ImageFeature of version 0.8 is, as far as it is read here."""

    def __init__(self) -> None:
        self.name, self.baseline_transforms, self.input_transforms = "Photo", [], [lambda image: image + 1]
        self.visualization_transform = None

    @staticmethod
    def visualization_type() -> str:
        return "image"


class CaptumGeneral(CaptumImage):
    @staticmethod
    def visualization_type() -> str:
        return "general"


def test_captums_features_are_read() -> None:
    (found,) = as_features(CaptumImage())
    assert isinstance(found, ImageFeature) and found.name == "Photo"
    assert [transform(1) for transform in found.input_transforms] == [2]


def test_arguments_stand_where_captum_has_them() -> None:
    feature = TextFeature("Review", [len], [len], str)
    assert (feature.input_transforms, feature.visualization_transform) == ([len], str)


@pytest.mark.parametrize(("given", "error"), [([], ValueError), ("Photo", TypeError), (CaptumGeneral(), ValueError)])
def test_what_is_no_feature(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="feature"):
        as_features(given)


def endless() -> Iterator[Any]:
    """As the dataset of Captum's example: a generator without an end."""
    number = 0
    while True:
        images = torch.arange(number, number + 3).float().reshape(3, 1, 1, 1).expand(3, 3, 2, 2)
        yield SimpleNamespace(inputs=images, labels=torch.arange(number, number + 3), additional_args=None)
        number += 3


def test_a_dataset_without_an_end_is_read_as_far_as_is_asked() -> None:
    dataset = endless()
    samples = Samples(dataset, ImageFeature("Photo", input_transforms=[lambda image: image + 0.5]), most=8)
    assert samples.reach(4) == 6 and samples.more
    assert float(samples[4].original[0, 0, 0, 0]) == 4 and float(samples[4].inputs[0, 0, 0, 0]) == 4.5
    assert samples[4].label == 4 and samples[4].inputs.shape == (1, 3, 2, 2)
    assert samples.reach(1000) == 8 and not samples.more
    assert next(dataset).labels[0] == 9  # the rest was not read
    for index in (8, -1):
        with pytest.raises(ValueError, match=f"sample {index} does not exist; there are 8"):
            samples[index]


def test_transforms_see_a_sample_without_its_batch_axis() -> None:
    seen: list[torch.Size] = []
    feature = ImageFeature("Photo", input_transforms=lambda image: seen.append(image.shape) or image)
    sample = Samples([Batch(torch.rand(1, 3, 4, 4))], feature, most=1)[0]
    assert not seen  # until the sample is needed
    assert sample.inputs.shape == (1, 3, 4, 4)
    assert seen == [(3, 4, 4)]


def test_further_arguments_go_with_their_samples() -> None:
    mask = torch.arange(2)[:, None]
    samples = Samples([Batch(torch.rand(2, 5), None, (mask, "word"))], TextFeature("Text"), most=9)
    assert [sample.extra[0].tolist() for sample in (samples[0], samples[1])] == [[[0]], [[1]]]  # type: ignore[index]
    assert samples[1].extra[1] == "word" and samples[1].label is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (Batch((torch.rand(1, 2), torch.rand(1, 2))), TypeError, "one tensor with a batch axis"),
        (Batch(torch.rand(3)), TypeError, "batch axis"),
        (Batch(torch.rand(2, 3, 4, 4), torch.zeros(3)), ValueError, "3 labels for 2 samples"),
    ],
)
def test_batches_that_do_not_fit(batch: Batch, error: type[Exception], message: str) -> None:
    samples = Samples([batch, Batch(torch.rand(1, 3, 4, 4))], ImageFeature("Photo"), most=4)
    assert samples.reach(2) == 2  # it keeps its place, and loses no other
    with pytest.raises(error, match=message):
        samples[0]
    assert samples[1].inputs.shape == (1, 3, 4, 4)


def sample_of(original: torch.Tensor) -> Sample:
    return Sample(original, original, None, None)


def test_pictures() -> None:
    image = torch.rand(1, 3, 4, 6)
    assert torch.equal(
        torch.from_numpy(shown_image(ImageFeature("Photo"), sample_of(image))), image[0].permute(1, 2, 0)
    )
    halved = ImageFeature("Photo", visualization_transform=lambda given: given / 2)
    torch.testing.assert_close(torch.from_numpy(shown_image(halved, sample_of(image))), image[0].permute(1, 2, 0) / 2)
    grey = shown_image(ImageFeature("Photo"), sample_of(image[:, :1]))
    assert grey.shape == (4, 6, 3) and (grey[..., 0] == grey[..., 2]).all()
    normalised = shown_image(ImageFeature("Photo"), sample_of(4 * image - 2))
    assert (normalised.min(), normalised.max()) == (0, 1)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        shown_image(ImageFeature("Photo"), sample_of(torch.rand(1, 2, 4, 4)))


def test_words() -> None:
    ids = torch.tensor([[3, 1]])
    assert shown_text(TextFeature("Text"), sample_of(ids)) == ["3", "1"]
    for words in (["a", "b"], [["a", "b"]], ("a", "b")):
        transform = lambda given, words=words: words  # noqa: E731
        assert shown_text(TextFeature("Text", None, None, transform), sample_of(ids)) == ["a", "b"]
    with pytest.raises(ValueError, match="1 strings of 2 tokens"):
        shown_text(TextFeature("Text", None, None, lambda given: ["a"]), sample_of(ids))


def test_large_pictures_are_made_smaller_by_means() -> None:
    values = torch.rand(8, 16, 3).double().numpy()
    small = at_most(values, 4)
    assert small.shape == (2, 4, 3)
    torch.testing.assert_close(torch.from_numpy(small[0, 0]), torch.from_numpy(values[:4, :4].mean((0, 1))))
    assert at_most(values[..., 0], 16).shape == (8, 16)
