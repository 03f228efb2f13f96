"""Captum Insights, where captum ships it: the methods of the family among Captum's own."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any, ClassVar

import captum
import torch
from captum.log import log_usage
from torch import Tensor

from captum_ultra.insights.method_forms import Choice, MethodForm, Number, Parameter, method_forms

__all__ = ["register", "unregister"]


def register() -> tuple[str, ...]:
    """Add the methods of this package to Captum Insights.

    Insights lists them beside Captum's own from then on; a visualizer that is served already shows them when its
    page is loaded again. A second call changes nothing, :func:`unregister` takes them out.

    Returns:
        The names under which Insights lists them.

    Raises:
        ModuleNotFoundError: where captum has no Insights (0.9 and later), with what to use in its place, or where
            libraries that Insights needs are missing.

    Example:
        >>> from captum_ultra.insights import register
        >>> register()  # doctest: +SKIP
        ('LatentTokenAttribution', 'RawAttention', 'AttentionRollout', 'GenericAttention', ...)
    """
    config = _insights_config()
    forms = method_forms()
    for name, form in forms.items():
        if not _is_ours(config, name):
            config.ATTRIBUTION_NAMES_TO_METHODS[name] = _for_insights(form)
            config.ATTRIBUTION_METHOD_CONFIG[name] = config.ConfigParameters(
                params={key: _as_captum(config, parameter) for key, parameter in form.parameters.items()},
                # Insights keeps what these return and gives it again for the next sample: all can be parsed twice.
                post_process={key: parameter.parse for key, parameter in form.parameters.items()},
            )
    return tuple(forms)


def unregister() -> None:
    """Take the methods of this package out of Captum Insights; nothing happens where there are none.

    Raises:
        ModuleNotFoundError: as :func:`register` does.
    """
    config = _insights_config()
    for name in [name for name in config.ATTRIBUTION_NAMES_TO_METHODS if _is_ours(config, name)]:
        del config.ATTRIBUTION_NAMES_TO_METHODS[name]
        config.ATTRIBUTION_METHOD_CONFIG.pop(name, None)


class _InsightsMethod:
    """What Insights makes of a model and calls: one input or a tuple, and maps of the input's own shape."""

    form: ClassVar[MethodForm]

    def __init__(self, model: Any) -> None:
        self._method = self.form.create(model)

    @log_usage()  # Insights calls ``attribute.__wrapped__``
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, additional_forward_args: Any = None,
        **arguments: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Maps as large as the inputs, all channels of an image included, in a tuple.

        Args:
            inputs: of one sample, as the model takes them.
            target: the class that is shown; latent tokens are explained by ``token`` and ``layer`` alone.
            additional_forward_args: further arguments of the model.
            arguments: of the method's form.
        """
        data = inputs if isinstance(inputs, tuple) else (inputs,)
        chosen = self.form.parse(arguments)
        if self.form.explains == "class":
            chosen["target"] = None if target is None else int(target)
        # The page draws three channels; a map [1, 1, H, W] makes it fail.
        chosen["output"] = "channels" if data[0].dim() == 4 else "input"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the map is zero", UserWarning)
            (found,) = self._method.attribute(data, additional_forward_args=additional_forward_args, **chosen)
        return (_drawable(found),)


def _for_insights(form: MethodForm) -> type[_InsightsMethod]:
    return type(form.name, (_InsightsMethod,), {"form": form, "__doc__": f"{form.name} as Captum Insights calls it."})


def _drawable(found: Tensor) -> Tensor:
    """A map that is zero everywhere as one that is equal everywhere: Insights fails on the former, for all samples."""
    if bool(found.any()):
        return found
    warnings.warn("the map is zero everywhere; Insights shows it in one colour", UserWarning, stacklevel=3)
    return torch.ones_like(found)


def _as_captum(config: ModuleType, parameter: Parameter) -> Any:
    if isinstance(parameter, Number):
        return config.NumberConfig(value=parameter.value, limit=(parameter.low, parameter.high))
    if isinstance(parameter, Choice):
        return config.StrEnumConfig(value=parameter.value, limit=list(parameter.options))
    return config.StrConfig(value=parameter.value)


def _is_ours(config: ModuleType, name: str) -> bool:
    known = config.ATTRIBUTION_NAMES_TO_METHODS.get(name)
    return isinstance(known, type) and issubclass(known, _InsightsMethod)


def _insights_config() -> ModuleType:
    """The module in which Insights keeps its methods.

    Raises:
        ModuleNotFoundError: says what is missing, and what to use in its place.
    """
    try:
        from captum.insights.attr_vis import config
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("captum"):
            raise ModuleNotFoundError(
                f"captum {captum.__version__} has no Insights; 0.8 is the last version that ships it. In its place "
                "captum_ultra.insights.TokenVisualizer(models, classes, features, dataset).serve() offers the same "
                "workflow, and captum_ultra.insights.explore(model, inputs) a page that needs no server",
                name=error.name,
            ) from None
        raise ModuleNotFoundError(
            f"Captum Insights needs {error.name}, which is not installed: pip install 'captum[insights]'",
            name=error.name,
        ) from error
    return config
