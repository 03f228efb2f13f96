"""The engine: relevance carried backwards through the attention layers of a running model.

Relevance is a cotangent. Every attention layer is replaced, while a model runs, by an operation
that carries one number per token beside the values; its backward pass turns the relevance row of
a target into the row one layer below. The explanation of a latent token is then one call of
``torch.autograd.grad``. Nothing here knows a model class or a library.
"""

from captum_ultra.relevance.chunks import automatic_chunk
from captum_ultra.relevance.course import BlockObserver, Course
from captum_ultra.relevance.pullback import pull_back, relevance_rows
from captum_ultra.relevance.rules import Rule, gradient_rows, gradient_weighted, rollout, row_gradient
from captum_ultra.relevance.scope import trace_relevance
from captum_ultra.relevance.tail import through_tail
from captum_ultra.relevance.token_transformation import TokenTransformation, TransformationWeights
from captum_ultra.relevance.trace import Trace

__all__ = [
    "BlockObserver",
    "Course",
    "Rule",
    "TokenTransformation",
    "Trace",
    "TransformationWeights",
    "automatic_chunk",
    "gradient_rows",
    "gradient_weighted",
    "pull_back",
    "relevance_rows",
    "rollout",
    "row_gradient",
    "through_tail",
    "trace_relevance",
]
