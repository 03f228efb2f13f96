"""The engine: relevance carried backwards through the attention layers of a running model.

Relevance is a cotangent. Every attention layer is replaced, while a model runs, by an operation
that carries one number per token beside the values; its backward pass turns the relevance row of
a target into the row one layer below. The explanation of a latent token is then one call of
``torch.autograd.grad``. What the backward pass does to relevance, the flow, is chosen when relevance is
pulled back: one run serves many methods. Nothing here knows a model class or a library.
"""

from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.flow import Cells, Flow
from captum_ultra.relevance.interception import AttentionInterceptor
from captum_ultra.relevance.pullback import Explained, gradients, in_chunks, pull_back
from captum_ultra.relevance.rules import Rule, gradient_rows, gradient_weighted, rollout, row_gradient
from captum_ultra.relevance.tail import through_tail
from captum_ultra.relevance.token_transformation import TokenTransformation, TransformationWeights
from captum_ultra.relevance.trace import Trace, trace_run

__all__ = [
    "AttentionInterceptor", "Cells", "Explained", "Flow", "Rule", "TokenTransformation", "Trace",
    "TransformationWeights", "explaining", "gradient_rows", "gradient_weighted", "gradients", "in_chunks",
    "pull_back", "rollout", "row_gradient", "through_tail", "trace_run",
]  # fmt: skip
