"""Rules for all operations of a running model: backward passes of another kind, without changing the model.

Every operation runs as it always does, and its backward pass follows its rule. Two sets of rules: ``propagation``
shares out relevance (layer-wise relevance propagation), ``linearisation`` gives gradients of a model that is a linear
map of its tokens. ``table`` says which operation is of which kind.
"""

from captum_ultra.relevance.lrp.linearisation import Linearisation, LinearRules
from captum_ultra.relevance.lrp.propagation import Propagation
from captum_ultra.relevance.lrp.records import MapRelevance

__all__ = ["LinearRules", "Linearisation", "MapRelevance", "Propagation"]
