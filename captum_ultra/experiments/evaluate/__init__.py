"""The tables and studies of the ULTra paper (arXiv 2411.12589), each from one command that can be interrupted."""

from captum_ultra.experiments.evaluate.options import Options
from captum_ultra.experiments.evaluate.registry import STUDIES
from captum_ultra.experiments.evaluate.report import Report
from captum_ultra.experiments.evaluate.runner import evaluate

__all__ = ["STUDIES", "Options", "Report", "evaluate"]
