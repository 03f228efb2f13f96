"""Layer-wise relevance propagation: backward rules on the operations of an unmodified model.

Inside a scope the gradients of a model's graph are relevances: every operation runs as it always does, and
its backward pass takes the relevance of its result and gives that of its inputs, by its rule. The rules are
those of Chefer et al. (CVPR 2021), with alpha = 1 and without bias; ``table`` says which operation has which.
"""

from captum_ultra.relevance.lrp.conservative import conservative_relevance
from captum_ultra.relevance.lrp.records import MapRelevance
from captum_ultra.relevance.lrp.scope import StreamRelevance, input_relevance, stream_relevance

__all__ = ["MapRelevance", "StreamRelevance", "conservative_relevance", "input_relevance", "stream_relevance"]
