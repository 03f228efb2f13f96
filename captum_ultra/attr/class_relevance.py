"""What the methods of layer-wise relevance propagation share: how a classifier is run for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_ultra.adapters.class_scores import class_scores
from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance import Course, rollout
from captum_ultra.relevance.lrp import StreamRelevance, stream_relevance

__all__ = ["RelevanceAttribution", "check_logit", "last_block_alone"]


class RelevanceAttribution(ClassAttribution):
    """Base of the explanations that start from relevance 1 at the logit of the class."""

    def _explained(self, run: ClassRun) -> Callable[[Any], Tensor]:
        """From what the model returns to the logit of each sample's class [B]."""
        assert run.classes is not None
        classes = run.classes[:, None]
        return lambda output: class_scores(self.model, output, self.head).gather(1, classes)[:, 0]

    def _stream(self, run: ClassRun, first: int) -> StreamRelevance:
        """Relevance of the stream that enters a block, and of the attention maps from there on."""
        return stream_relevance(
            run.again, self.model, run.view.blocks, self._explained(run), first=first,
            batch_first=run.view.batch_first,
        )  # fmt: skip


def last_block_alone(depth: int) -> Course:
    """The cheapest course that tells where a class is read."""
    return Course(rollout, [depth], first=depth - 1, separate=True)


def check_logit(options: ClassOptions, method: str) -> None:
    """Raise for another scalar than the logit.

    Raises:
        ValueError: names the method.
    """
    if options.get("class_score", "logit") != "logit":
        raise ValueError(
            f"class_score={options['class_score']!r}: {method} shares out the class's logit; leave class_score out"
        )
