"""Every library's models by name: the way there with tiny random models, and every way to fail."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_ultra.models import fetching, loader
from captum_ultra.models.library import import_library
from captum_ultra.models.loader import LoadedModel, ModelNotAvailableError, available_models, load_model
from captum_ultra.models.transformers_models import auto_class


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_shipped_model(picture: Image.Image) -> None:
    loaded = load_model("scenes-vit")
    assert loaded.preprocess is not None
    inputs = loaded.preprocess(picture)
    size = loaded.model.image_size
    assert inputs.shape == (1, 3, size, size) and inputs.dtype == torch.float32
    assert loaded.kind == "image"
    with torch.no_grad():
        assert torch.isfinite(loaded.model(inputs)).all()


def test_shipped_model_normalises_as_it_was_trained() -> None:
    loaded = load_model("scenes-vit")
    size = loaded.model.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    assert loaded.preprocess is not None
    own = loaded.model.preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(loaded.preprocess(Image.fromarray(pixels)), own)


def test_random_weights_of_the_shipped_model_differ() -> None:
    trained, random = load_model("scenes-vit"), load_model("scenes-vit", pretrained=False)
    assert not torch.equal(trained.model.patch_embed.weight, random.model.patch_embed.weight)


def test_the_shipped_language_model_comes_with_its_tokenizer() -> None:
    loaded = load_model("facts-llama")
    assert loaded.kind == "text" and not loaded.model.training
    ids = loaded.tokenizer("Mara lives in Rome.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert loaded.model(ids).logits.shape == (1, 6, len(loaded.tokenizer))
    random = load_model("facts-llama", pretrained=False)
    assert not torch.equal(random.model.lm_head.weight, loaded.model.lm_head.weight)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_any_mode(picture: Image.Image, mode: str) -> None:
    for name in ("scenes-vit", "timm:test_vit"):
        preprocess = load_model(name, pretrained=False).preprocess
        assert preprocess is not None and preprocess(picture.convert(mode)).shape[:2] == (1, 3)


def test_timm_preprocesses_like_timm(picture: Image.Image) -> None:
    import timm

    loaded = load_model("timm:test_vit", pretrained=False)
    config = timm.data.resolve_model_data_config(loaded.model)
    expected = timm.data.create_transform(**config, is_training=False)(picture)
    assert loaded.preprocess is not None
    torch.testing.assert_close(loaded.preprocess(picture), expected[None])
    assert loaded.mean == config["mean"] and loaded.std == config["std"]
    assert not loaded.model.training


def test_picture_undoes_the_normalisation(picture: Image.Image) -> None:
    loaded = load_model("timm:test_vit", pretrained=False)
    assert loaded.preprocess is not None
    inputs = loaded.preprocess(picture)
    seen = loaded.picture(inputs)
    assert seen.shape == (1, 160, 160, 3) and seen.min() >= 0 and seen.max() <= 1
    again = (seen.permute(0, 3, 1, 2) - torch.tensor(loaded.mean).view(3, 1, 1)) / torch.tensor(loaded.std).view(
        3, 1, 1
    )
    torch.testing.assert_close(again, inputs)


def test_pretrained_weights_are_asked_for_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create, asked = timm.create_model, []

    def offline(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return create("test_vit", pretrained=False)

    monkeypatch.setattr(timm, "create_model", offline)
    load_model("timm:vit_small_patch16_224.augreg_in1k")
    assert asked == [("vit_small_patch16_224.augreg_in1k", True)]


def test_transformers_image_model_from_a_folder(tmp_path: Path, picture: Image.Image) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    model = ViTForImageClassification(config)
    model.save_pretrained(tmp_path)
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)

    loaded = load_model(f"hf:{tmp_path}")
    assert type(loaded.model) is ViTForImageClassification and loaded.kind == "image"
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], weight)
    assert loaded.preprocess is not None and loaded.mean == (0.5, 0.5, 0.5)
    expected = processor(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(loaded.preprocess(picture), expected)

    random = load_model(f"hf:{tmp_path}", pretrained=False)
    assert not torch.equal(random.model.classifier.weight, loaded.model.classifier.weight)


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "ring": 2, "star": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)


def test_transformers_text_model_has_a_tokenizer(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    loaded = load_model(f"hf:{tmp_path}")
    assert type(loaded.model) is LlamaForCausalLM
    assert loaded.kind == "text" and loaded.preprocess is None
    assert loaded.tokenizer("a star")["input_ids"] == [1, 3]


def test_transformers_two_towers_read_both(tmp_path: Path, picture: Image.Image) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small: dict[str, int] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = CLIPConfig(
        text_config={**small, "vocab_size": 8}, vision_config={**small, "image_size": 32, "patch_size": 8}
    )
    CLIPModel(config).save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.kind == "image and text"
    assert loaded.preprocess is not None and loaded.preprocess(picture).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        (["ViTForImageClassification"], "AutoModelForImageClassification"),
        (["LlamaForCausalLM"], "AutoModelForCausalLM"),
        (["GPT2LMHeadModel"], "AutoModelForCausalLM"),
        (["ViTMAEForPreTraining"], "AutoModel"),
        (["BertForMaskedLM"], "AutoModel"),
        (["DeiTForImageClassificationWithTeacher"], "AutoModelForImageClassification"),
        (["BertForSequenceClassification"], "AutoModelForSequenceClassification"),
        (["BertForTokenClassification"], "AutoModelForTokenClassification"),
        ([], "AutoModel"),
        (None, "AutoModel"),
    ],
)
def test_the_auto_class_follows_the_checkpoint(architectures: list[str] | None, expected: str) -> None:
    assert auto_class(architectures) == expected


SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 5,
}  # fmt: skip
PICTURE = {"image_size": 32, "patch_size": 8}


def save_processor(folder: Path) -> None:
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def save_classifier(folder: Path, kind: str) -> None:
    """A classifier of 5 classes, with all that is needed to feed it."""
    import timm
    import transformers

    if kind == "teacher":
        config = transformers.DeiTConfig(**SMALL, **PICTURE)
        transformers.DeiTForImageClassificationWithTeacher(config).save_pretrained(folder)
        save_processor(folder)
    elif kind == "text":
        transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=8, **SMALL)).save_pretrained(
            folder
        )
        save_tokenizer(folder)
    else:  # as timm's own repositories are
        model = timm.create_model("test_vit", num_classes=5)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        known = {**model.pretrained_cfg, "num_classes": 5, "input_size": [3, 160, 160]}
        config = {"architecture": "test_vit", "num_classes": 5, "num_features": 64, "pretrained_cfg": known}
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["teacher", "text", "timm"])
def test_classifiers_keep_their_head(kind: str, tmp_path: Path, picture: Image.Image) -> None:
    save_classifier(tmp_path, kind)
    for pretrained in (True, False):
        loaded = load_model(f"hf:{tmp_path}", pretrained=pretrained)
        if loaded.preprocess is None:
            inputs = torch.tensor([loaded.tokenizer("a star")["input_ids"]])
        else:
            inputs = loaded.preprocess(picture)
        with torch.no_grad():
            assert loaded.model(inputs).logits.shape == (1, 5)
    if kind == "timm":
        import timm

        known = timm.create_model("test_vit", num_classes=5).eval()
        known.load_state_dict(torch.load(tmp_path / "pytorch_model.bin"))
        loaded = load_model(f"hf:{tmp_path}")
        assert loaded.mean == (0.5, 0.5, 0.5)
        with torch.no_grad():
            torch.testing.assert_close(loaded.model(inputs).logits, known(inputs))


def test_a_folder_that_lacks_a_part_says_which_and_what_to_do(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

    whole, folder = tmp_path / "original", tmp_path / "mine"
    save_processor(whole)
    save_tokenizer(whole)

    def refused(part: str) -> str:
        with pytest.raises(ModelNotAvailableError, match=rf"cannot load 'hf:.*mine': the .*{part}") as error:
            load_model(f"hf:{folder}")
        assert "network" not in str(error.value) and "https" not in str(error.value)
        return str(error.value)

    def followed(message: str) -> None:
        """Do as the message says."""
        (code,) = re.findall(r"(Auto\w+\.from_pretrained\(.*?\)\.save_pretrained\(.*?\))", message)
        import transformers

        exec(code.replace("'NAME'", repr(str(whole))), vars(transformers))

    folder.mkdir()
    refused(r" holds no configuration \(config\.json\)")
    (folder / "config.json").write_text("{}")
    refused(" cannot be read: Unrecognized model")
    ViTConfig(**SMALL, **PICTURE, architectures=["ViTForImageClassification"]).save_pretrained(folder)
    assert "pretrained=False" in refused(r"no weights \(model\.safetensors\)")
    ViTForImageClassification(ViTConfig(**SMALL, **PICTURE)).save_pretrained(folder)
    followed(refused(r"no image processor \(preprocessor_config\.json\)"))
    assert load_model(f"hf:{folder}").kind == "image"

    for model in (LlamaForCausalLM(LlamaConfig(vocab_size=8, **SMALL)), BertModel(BertConfig(vocab_size=8, **SMALL))):
        shutil.rmtree(folder)
        model.save_pretrained(folder)
        followed(refused(r"no tokenizer \(tokenizer\.json\)"))
        assert load_model(f"hf:{folder}").kind == "text"


@pytest.fixture
def tiny_clip(tmp_path: Path) -> str:
    import open_clip

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "captum-ultra-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    return "captum-ultra-tiny"


def test_open_clip(tiny_clip: str, picture: Image.Image) -> None:
    import open_clip

    loaded = load_model(f"open_clip:{tiny_clip}", pretrained=False)
    assert loaded.kind == "image and text"
    expected = open_clip.image_transform(
        32, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
    )(picture)
    assert loaded.preprocess is not None
    torch.testing.assert_close(loaded.preprocess(picture), expected[None])
    assert loaded.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert loaded.tokenizer(["a star"]).shape == (1, 8)


@pytest.mark.parametrize("quick", [True, False])
def test_open_clip_builds_the_activation_of_the_weights(
    quick: bool, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's weights were trained with QuickGELU, which the architecture's name does not say."""
    from open_clip import pretrained
    from open_clip.transformer import QuickGELU

    monkeypatch.setitem(pretrained._PRETRAINED, tiny_clip, {"openai": {"quick_gelu": quick}})
    model = load_model(f"open_clip:{tiny_clip}/openai", pretrained=False).model
    activations = [model.visual.transformer.resblocks[0].mlp.gelu, model.transformer.resblocks[0].mlp.gelu]
    assert [isinstance(each, QuickGELU) for each in activations] == [quick, quick]


def test_torchvision(monkeypatch: pytest.MonkeyPatch, picture: Image.Image) -> None:
    from torchvision import models

    tiny = models.VisionTransformer(224, 56, 1, 2, 16, 32)
    asked: list[Any] = []
    monkeypatch.setattr(models, "get_model", lambda name, weights: asked.append((name, weights)) or tiny)
    loaded = load_model("torchvision:vit_b_16")
    assert asked == [("vit_b_16", models.ViT_B_16_Weights.DEFAULT)]
    assert loaded.preprocess is not None and loaded.mean == pytest.approx((0.485, 0.456, 0.406))
    expected = models.ViT_B_16_Weights.DEFAULT.transforms()(picture)
    torch.testing.assert_close(loaded.preprocess(picture), expected[None])
    assert loaded.model is tiny and not tiny.training


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("scenes_vit", "scenes-vit"),
        ("fact-llama", "facts-llama"),
        ("tim:vit_small_patch16_224", "Known are scenes-vit, scenes-classifier, facts-llama, timm:NAME"),
        ("timm:", "Known are"),
        ("", "Known are"),
        ("timm:vit_smal_patch16_224", "timm:vit_small_patch16_224"),
        ("timm:vit_small_patch16_224.augreg_in1", "timm:vit_small_patch16_224.augreg_in1k"),
        ("timm:vit_base_patch16_plus_240", "no pretrained weights"),
        ("open_clip:ViT-B-33/openai", "open_clip:ViT-B-32"),
        ("open_clip:ViT-B-32", "append /PRETRAINED, one of openai"),
        ("open_clip:ViT-B-32/openia", "open_clip:ViT-B-32/openai"),
        ("torchvision:vit_b_17", "torchvision:vit_b_16"),
        ("hf:./no/such/folder", "no such folder"),
    ],
)
def test_unknown_names_list_what_is_near(name: str, hint: str) -> None:
    with pytest.raises(ValueError) as error:
        load_model(name)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("timm:test_vit", "timm", "timm"),
        ("hf:somebody/model", "transformers", "transformers"),
        ("facts-llama", "transformers", "text"),
        ("open_clip:ViT-B-32/openai", "open_clip", "open_clip"),
        ("torchvision:vit_b_16", "torchvision", "timm"),
    ],
)
def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str) -> None:
    for imported in [known for known in sys.modules if known.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelNotAvailableError, match=rf"{module} is not installed.*captum_ultra\[{extra}\]"):
        load_model(name)


def test_a_library_that_misses_something_else_speaks_for_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "half_installed.py").write_text("import what_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        import_library("half_installed", extra="timm")


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("Failed to download weights")])
def test_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    import timm

    def fail(*args: Any, **kwargs: Any) -> nn.Module:
        raise failure

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ModelNotAvailableError, match=rf"cannot load 'timm:test_vit'.*{failure}.*no network"):
        load_model("timm:test_vit")


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    names = r"'hf:nobody/has-this-model'.*'scenes-vit', 'scenes-classifier' and 'facts-llama' need none"
    with pytest.raises(ModelNotAvailableError, match=names):
        load_model("hf:nobody/has-this-model")


HUB_NAMES = ["hf:nobody/has-this-model", "timm:vit_tiny_patch16_224", "open_clip:ViT-B-32/openai"]


@pytest.mark.parametrize("name", HUB_NAMES)
def test_without_a_network_it_is_told_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(fetching, "reachable", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it tries again"))
    needed = rf"cannot load '{name}': huggingface\.co cannot be reached.*no network.*'facts-llama' need none"
    with pytest.raises(ModelNotAvailableError, match=needed) as error:
        load_model(name)
    assert "HF_HUB_OFFLINE" not in str(error.value) and constants.HF_HUB_OFFLINE is False


def test_what_needs_no_network_asks_for_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetching, "reachable", lambda url: pytest.fail("it asks"))
    load_model("timm:test_vit", pretrained=False)
    save_classifier(tmp_path, "teacher")
    load_model(f"hf:{tmp_path}")


def test_a_server_that_can_be_reached_and_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert fetching.reachable(f"https://127.0.0.1:{port}/path")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert fetching.reachable("https://nowhere.invalid")  # the proxy can
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert not fetching.reachable(f"https://127.0.0.1:{port}")
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: end.wait(20) and [])
    start = time.monotonic()
    assert not fetching.reachable("https://127.0.0.1:1", seconds=0.1) and time.monotonic() - start < 5
    end.set()


def test_without_a_network_the_cache_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(fetching, "reachable", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    revision, repository = 40 * "a", tmp_path / "models--somebody--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots" / revision).mkdir(parents=True)
    save_classifier(repository / "snapshots" / revision, "teacher")
    assert load_model("hf:somebody/model").kind == "image"


def test_available_models_and_the_loader_agree() -> None:
    schemes = {name.split(":")[0] for name, _ in available_models()}
    assert schemes == {*loader._SHIPPED, *loader._LIBRARIES}


def test_kind_of_a_model() -> None:
    assert LoadedModel(nn.Identity(), "none", tokenizer=str.split).kind == "text"
