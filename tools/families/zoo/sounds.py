"""Models of sound: waves, spectrograms, encoders of speech models."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from tools.families.case import Case, floats
from tools.families.zoo.shrink import DEPTH, build

_WAVE: dict[str, Any] = {
    "conv_dim": [16, 16], "conv_kernel": [4, 4], "conv_stride": [4, 4], "num_feat_extract_layers": 2,
    "tdnn_dim": [8, 8], "tdnn_kernel": [3, 3], "tdnn_dilation": [1, 1],
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "ASTModel": {"max_length": 32, "num_mel_bins": 16, "frequency_stride": 8, "time_stride": 8},
}
WAVES = {"Wav2Vec2Model": "exact", "HubertModel": "exact", "WavLMModel": "exact", "Data2VecAudioModel": "",
         "UniSpeechModel": "", "UniSpeechSatModel": "", "SEWModel": "", "SEWDModel": "",
         "Wav2Vec2ConformerModel": "refused", "Wav2Vec2ForCTC": "exact"}  # fmt: skip
SPECTROGRAMS: dict[str, tuple[tuple[int, ...], str]] = {
    "ASTModel": ((2, 32, 16), "exact"), "Wav2Vec2BertModel": ((2, 20, 160), ""), "ParakeetEncoder": ((2, 64, 16), ""),
    "ASTForAudioClassification": ((2, 32, 16), "exact"),
}  # fmt: skip
ENCODERS = {"WhisperModel": (2, 16, 128), "Speech2TextModel": (2, 64, 80)}


def cases() -> Iterator[Case]:
    for name, expected in WAVES.items():
        yield Case(name, "transformers, sound", partial(build, name, **_WAVE), partial(floats, 2, 200), expected)
    for name in ("Wav2Vec2ConformerModel", "WavLMModel"):
        yield Case(f"{name}, eager", "transformers, sound", partial(build, name, attention="eager", **_WAVE),
                   partial(floats, 2, 200), WAVES[name])  # fmt: skip
    for name, (shape, expected) in SPECTROGRAMS.items():
        settings = SETTINGS.get(name.replace("ForAudioClassification", "Model"), {})
        yield Case(name, "transformers, sound", partial(build, name, **settings), partial(floats, *shape), expected)
    for name, shape in ENCODERS.items():
        yield Case(f"{name}.get_encoder()", "transformers, sound", partial(_encoder, name), partial(floats, *shape),
                   "exact" if name == "WhisperModel" else "")  # fmt: skip


def _encoder(name: str) -> Any:
    settings: dict[str, Any] = {"max_source_positions": 64, "encoder_layers": DEPTH}
    return build(name, **settings).get_encoder()
