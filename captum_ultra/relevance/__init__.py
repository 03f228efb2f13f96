"""The engine: relevance carried backwards through the attention layers of a running model.

A model runs once and is cut at its attention and wherever the residual stream leaves a block. Gradients of many
targets then go down from cut to cut, and with them the relevance row of every target, which each attention turns into
the row one layer below. What happens to relevance on its way, the flow, is chosen when it is pulled back: one run
serves many methods. Nothing here knows a model class or a library.
"""

from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.flow import Cells, Flow
from captum_ultra.relevance.interception import AttentionInterceptor
from captum_ultra.relevance.pullback import Explained, gradients, gradients_below, pull_back
from captum_ultra.relevance.rules import Rule, gradient_rows, gradient_weighted, rollout, row_gradient
from captum_ultra.relevance.tail import through_tail
from captum_ultra.relevance.token_transformation import TokenTransformation, TransformationWeights
from captum_ultra.relevance.trace import Trace, trace_run

__all__ = [
    "AttentionInterceptor", "Cells", "Explained", "Flow", "Rule", "TokenTransformation", "Trace",
    "TransformationWeights", "explaining", "gradient_rows", "gradient_weighted", "gradients",
    "gradients_below", "pull_back", "rollout", "row_gradient", "through_tail", "trace_run",
]  # fmt: skip
