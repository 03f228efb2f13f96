"""The public names, listed once: for type checkers, and for the package, which imports them when they are needed."""

from .adapters.text_head import text_head as text_head
from .attr.contribution.result import Contribution as Contribution
from .attr.contribution.result import SpanContribution as SpanContribution
from .attr.contribution.token_contribution import TokenContribution as TokenContribution
from .attr.describe import Description as Description
from .attr.describe import describe as describe
from .attr.latent_token import LatentTokenAttribution as LatentTokenAttribution
from .attr.methods.attcat import AttCAT as AttCAT
from .attr.methods.attention_grad_cam import AttentionGradCam as AttentionGradCam
from .attr.methods.attention_rollout import AttentionRollout as AttentionRollout
from .attr.methods.conservative_lrp import ConservativeLRP as ConservativeLRP
from .attr.methods.conservative_lrp import ResidualLRP as ResidualLRP
from .attr.methods.generic_attention import GenericAttention as GenericAttention
from .attr.methods.legrad import LeGrad as LeGrad
from .attr.methods.lrp import LRP as LRP
from .attr.methods.partial_lrp import PartialLRP as PartialLRP
from .attr.methods.raw_attention import RawAttention as RawAttention
from .attr.methods.token_tm import TokenTM as TokenTM
from .attr.methods.transformer_attribution import TransformerAttribution as TransformerAttribution
from .errors import UnsupportedModelError as UnsupportedModelError

__version__: str
