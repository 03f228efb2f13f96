"""The tables of published papers, each from one command that can be interrupted.

ULTra (arXiv 2411.12589) in :mod:`captum_ultra.experiments.evaluate.ultra`, TokenTM (arXiv 2403.14552) in
:mod:`captum_ultra.experiments.evaluate.token_tm`.
"""

from captum_ultra.experiments.evaluate.registry import STUDIES
from captum_ultra.experiments.evaluate.report import Report
from captum_ultra.experiments.evaluate.runner import evaluate
from captum_ultra.experiments.evaluate.token_tm.options import TokenTMOptions
from captum_ultra.experiments.evaluate.ultra.options import Options

__all__ = ["STUDIES", "Options", "Report", "TokenTMOptions", "evaluate"]
