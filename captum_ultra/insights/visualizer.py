"""The workflow of Captum Insights: choose a sample, a method and its arguments, and see the result computed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from captum_ultra.insights.features import as_features
from captum_ultra.insights.method_forms import MethodForm, method_forms
from captum_ultra.insights.visualizer_errors import RequestError, about_the_request
from captum_ultra.insights.visualizer_results import Shown, compute, predict
from captum_ultra.insights.visualizer_samples import Samples

if TYPE_CHECKING:
    from captum_ultra.insights.explorer import Explorer
    from captum_ultra.insights.visualizer_server import VisualizerServer

__all__ = ["TokenVisualizer"]

# Results that are kept, so that going back is at once; explorers are large.
_KEPT = {"explain": 64, "explorer": 2, "picture": 64, "predict": 256}


class TokenVisualizer:
    """Explanations of a dataset's samples, computed as they are asked for; used as Captum's AttributionVisualizer.

    A page lists the samples; for the chosen one it shows the classes that the model sees and the map of the chosen
    method. For methods that explain latent tokens a click on the image chooses the token, and the token explorer of
    the sample, with all its tokens and layers, is one step away.

    Args:
        models: one or more modules that take one input (and further arguments, given by the dataset).
        classes: names of the classes, in the order of the model's scores; empty for a model without classes, of
            which latent tokens are explained.
        features: an ``ImageFeature`` or a ``TextFeature`` of :mod:`captum_ultra.insights.features`, or of Captum.
        dataset: batches (:class:`captum_ultra.insights.features.Batch`, or Captum's); may have no end.
        score_func: from the model's output to the scores that are shown, e.g. a softmax.
        use_label_for_attr: whether the class chosen on the page is explained; with False the predicted one is.
        methods: those that are offered, by name; all of the family when None.
        max_samples: so many samples of the dataset are read at most.
        max_tokens: images of more patches have no token explorer, which explains every one of them.

    Raises:
        TypeError, ValueError: for arguments.

    Example:
        >>> import torch
        >>> from captum_ultra.insights.features import Batch, ImageFeature
        >>> from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
        >>> model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> visualizer = TokenVisualizer(
        ...     model, model.classes, ImageFeature("Photo", input_transforms=lambda image: 2 * image - 1),
        ...     [Batch(torch.rand(2, 3, 16, 16), labels=torch.tensor([0, 4]))],
        ... )
        >>> visualizer.explain(sample=1, method="LatentTokenAttribution", token=(1, 2), layer=2).values.shape
        (16, 16)
        >>> with visualizer.serve() as server:
        ...     print(server.url)  # http://127.0.0.1:...
        http://127.0.0.1:...
    """

    def __init__(
        self, models: nn.Module | Sequence[nn.Module], classes: Sequence[str] | None, features: Any,
        dataset: Iterable[Any], score_func: Callable[[Tensor], Tensor] | None = None, use_label_for_attr: bool = True,
        *, methods: Sequence[str] | None = None, max_samples: int = 256, max_tokens: int = 1024,
    ) -> None:  # fmt: skip
        self.models = [models] if isinstance(models, nn.Module) else list(models)
        if not self.models or not all(isinstance(model, nn.Module) for model in self.models):
            raise TypeError("models must be a torch module, or a list of at least one")
        self.classes = tuple(str(name) for name in classes or ())
        listed = as_features(features)
        if len(listed) != 1:
            raise ValueError(
                f"{len(listed)} features were given, and one input is explained; further arguments of the model go "
                "into additional_args of a batch"
            )
        (self.feature,) = listed
        if max_samples < 1 or max_tokens < 1:
            raise ValueError(f"max_samples ({max_samples}) and max_tokens ({max_tokens}) must be at least 1")
        self.methods = _chosen_forms(methods, bool(self.classes))
        self.max_tokens = max_tokens
        self.samples = Samples(dataset, self.feature, max_samples)
        self._score_func = score_func
        self._use_label = use_label_for_attr
        self._lock = RLock()
        self._kept: dict[str, OrderedDict[Any, Any]] = {kind: OrderedDict() for kind in _KEPT}
        self._server: VisualizerServer | None = None

    def explain(
        self, sample: int = 0, method: str = "LatentTokenAttribution", target: int | None = None, model: int = 0,
        **arguments: Any,
    ) -> Shown:  # fmt: skip
        """What the page shows: one explanation of one sample. One is computed at a time.

        Args:
            sample: number of the sample.
            method: name of the method.
            target: the class to explain; the predicted one when None.
            model: number of the model.
            arguments: of the method, as the page offers them.

        Returns:
            The map, and the classes that the model sees; see
            :class:`captum_ultra.insights.visualizer_results.Shown`.

        Raises:
            ValueError, TypeError: for arguments; they are checked before the model runs.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """
        if method not in self.methods:
            raise RequestError(f"method {method!r} is unknown; possible: {', '.join(self.methods)}")
        form, found = self.methods[method], self._model(model)
        if target is not None and not 0 <= target < len(self.classes):
            raise RequestError(f"class {target} does not exist; there are {len(self.classes)}")
        target = target if self._use_label else None
        with about_the_request():
            chosen = form.parse(arguments)

        def run() -> Shown:
            each = self.samples[sample]
            predictions = self._once(("predict", sample, model), lambda: self._predict(found, sample))
            return compute(found, each, form, chosen, target, predictions)

        return self._once(("explain", sample, model, method, target, tuple(chosen.items())), run)

    def explorer(self, sample: int = 0, model: int = 0) -> Explorer:
        """The token explorer of one sample: all patches, all layers, both scores.

        Raises:
            ValueError: for a text, an image of more than ``max_tokens`` patches, or a sample that does not exist.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """
        found = self._model(model)
        return self._once(("explorer", sample, model), lambda: self._explorer(found, sample))

    def picture(self, sample: int) -> Any:
        """What is shown of a sample: an array [H, W, 3] in 0..1, or a list of N strings."""
        from captum_ultra.insights.visualizer_pictures import shown_image, shown_text

        show = shown_image if self.feature.kind == "image" else shown_text
        return self._once(("picture", sample), lambda: show(self.feature, self.samples[sample]))

    def reach(self, count: int) -> int:
        """Read samples until there are ``count``, if there are so many; how many there are then."""
        with self._lock:
            return self.samples.reach(count)

    def serve(
        self, *, blocking: bool = False, debug: bool = False, port: int | None = None, bind_all: bool = False,
        hosts: Sequence[str] = (),
    ) -> VisualizerServer:  # fmt: skip
        """Serve the page, on loopback unless told otherwise; arguments as in Captum Insights.

        Args:
            blocking: return when the server ends (Ctrl+C) only.
            debug: log every request.
            port: of the server; any free one when None.
            bind_all: listen on all interfaces: whoever reaches the machine sees the samples and can compute.
            hosts: names, beside this machine's, under which browsers may reach the server, itself or by a proxy that
                speaks TLS for it.

        Returns:
            The running server, with ``url``, ``port`` and ``stop()``; a context manager that stops it. A server
            that runs already is returned as it is.

        Raises:
            OSError: if the port is taken.
        """
        from captum_ultra.insights.visualizer_server import VisualizerServer

        if self._server is None or not self._server.running:
            self._server = VisualizerServer(self, port=port or 0, bind_all=bind_all, hosts=hosts, debug=debug)
            self._server.start()
        if blocking:
            self._server.wait()
        return self._server

    def render(self, height: int = 860, **options: Any) -> None:
        """Serve the page and show it in a notebook, in a frame.

        Args:
            height: of the frame, in pixels.
            options: as :meth:`serve` takes them.

        Raises:
            ModuleNotFoundError: without IPython; :meth:`serve` needs none.
        """
        try:
            from IPython.display import IFrame, display
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("render() needs IPython; serve() shows the page in a browser") from error
        display(IFrame(self.serve(**options).url, width="100%", height=height))

    def stop(self) -> None:
        """Stop the server, if one runs."""
        if self._server is not None:
            self._server.stop()

    def _model(self, number: int) -> nn.Module:
        if not 0 <= number < len(self.models):
            raise RequestError(f"model {number} does not exist; there are {len(self.models)}")
        return self.models[number]

    def _predict(self, model: nn.Module, sample: int) -> Any:
        return predict(model, self.samples[sample], self.classes, self._score_func)

    def _explorer(self, model: nn.Module, sample: int) -> Explorer:
        from captum_ultra import LatentTokenAttribution
        from captum_ultra.insights.explorer import explore

        inputs = self.samples[sample].inputs
        grid = LatentTokenAttribution(model).token_layout(inputs).grid if self.feature.kind == "image" else None
        if grid is None:
            raise RequestError("the token explorer of a sample needs an image with a known patch grid")
        if grid[0] * grid[1] > self.max_tokens:
            raise RequestError(f"{grid[0]} x {grid[1]} patches are more than max_tokens={self.max_tokens}")
        title = f"{self.feature.name}, sample {sample}, {type(model).__name__}"
        return explore(model, inputs, picture=self.picture(sample), segmentation=_has_scipy(), title=title)

    def _once(self, key: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """The result of ``run``, kept under its kind and key for the next time; one runs at a time."""
        with self._lock:
            kept = self._kept[key[0]]
            if key not in kept:
                kept[key] = run()
                if len(kept) > _KEPT[key[0]]:
                    kept.popitem(last=False)
            kept.move_to_end(key)
            return kept[key]


def _chosen_forms(names: Sequence[str] | None, classes: bool) -> Mapping[str, MethodForm]:
    """The forms of the methods that are offered; without classes those of tokens only.

    Raises:
        ValueError: for an unknown name, or none at all.
    """
    forms = method_forms()
    for name in names or ():
        if name not in forms:
            raise ValueError(f"methods: {name!r} is unknown; possible: {', '.join(forms)}")
    chosen = {name: form for name, form in forms.items() if names is None or name in names}
    found = {name: form for name, form in chosen.items() if classes or form.explains == "token"}
    if not found:
        raise ValueError("methods: none is left; explanations of a class need classes")
    return found


def _has_scipy() -> bool:
    from importlib.util import find_spec

    return find_spec("scipy") is not None
