"""Explain what a transformer's latent tokens hold, and which input put it there."""

import lazy_loader

__version__ = "0.1.0"
# The public names stand in __init__.pyi. torch and captum are imported when one is first needed, so that the command
# line answers at once.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*__all__, "__version__"])
