"""A config of PrithviModelFactory becomes one of EncoderDecoderFactory with the same model."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.rewrite import simpler_config
from tests.rasters import BANDS

OLD = """\
# Burn scars
model:
  class_path: terratorch.tasks.SemanticSegmentationTask
  init_args:
    # deprecated
    model_factory: PrithviModelFactory
    model_args:
      decoder: UperNetDecoder
      pretrained: false  # for now
      backbone: prithvi_eo_v2_300  # 24 blocks
      # seasons
      num_frames: 3
      in_channels: 6
      bands:
        - BLUE
        - GREEN  # the second
        - RED

      backbone_drop_path: 0.3
      decoder_channels: 256
      rescale: true
      head_dropout: 0.1
    loss: ce
"""

NEW = """\
# Burn scars
model:
  class_path: terratorch.tasks.SemanticSegmentationTask
  init_args:
    # deprecated
    model_factory: EncoderDecoderFactory
    model_args:
      decoder: UperNetDecoder
      backbone_pretrained: false  # for now
      backbone: prithvi_eo_v2_300  # 24 blocks
      # seasons
      backbone_num_frames: 3
      backbone_in_chans: 6
      backbone_bands:
        - BLUE
        - GREEN  # the second
        - RED

      backbone_drop_path: 0.3
      decoder_channels: 256
      rescale: true
      head_dropout: 0.1
    loss: ce
"""

TASK = "model: {{init_args: {{model_factory: PrithviModelFactory, model_args: {{{}}}}}}}\n"
FLOW = "model: {{init_args: {{model_factory: EncoderDecoderFactory, model_args: {{{}}}}}}}\n"
BLOCK = (
    "model:\n  init_args:\n    model_args:\n      bands: [RED]\n      backbone: prithvi_eo_tiny\n"
    "      pretrained: true\n{}    model_factory: {}\n"
)

TEXTS = {
    "comments and blocks": (OLD, NEW),
    "flow": (
        TASK.format("backbone: prithvi_eo_tiny, bands: [0, 1], pretrained: true"),
        FLOW.format("backbone: prithvi_eo_tiny, backbone_bands: [0, 1], backbone_pretrained: true"),
    ),
    "weights that are loaded unasked": (
        TASK.format("bands: [RED], backbone: prithvi_eo_tiny"),
        FLOW.format("backbone_bands: [RED], backbone: prithvi_eo_tiny, backbone_pretrained: true"),
    ),
    "overwritten keys in flow": (
        TASK.format(
            "backbone_bands: [RED], backbone_num_frames: 2, backbone: prithvi_eo_tiny, "
            "backbone_in_chans: 3, bands: [BLUE], backbone_pretrained: false"
        ),
        FLOW.format("backbone: prithvi_eo_tiny, backbone_pretrained: true, backbone_bands: [BLUE]"),
    ),
    "quotes without spaces": (
        TASK.format('"backbone":"prithvi_eo_tiny","bands":["RED"],"pretrained":false'),
        FLOW.format(
            '"backbone":"prithvi_eo_tiny","backbone_bands":["RED"],"backbone_pretrained":false'
        ),
    ),
    "overwritten keys in a block": (
        BLOCK.format(
            "      backbone_bands:\n        - BLUE\n        - RED\n\n      # decodes\n"
            "      decoder: FCNDecoder\n      prepare_features_for_image_model:\n",
            "PrithviModelFactory",
        ),
        BLOCK.format("\n      # decodes\n      decoder: FCNDecoder\n", "EncoderDecoderFactory")
        .replace(" bands", " backbone_bands")
        .replace(" pretrained", " backbone_pretrained"),
    ),
    "overwritten key first": (
        BLOCK.format("", "PrithviModelFactory").replace(
            "      bands", "      backbone_bands: [BLUE]\n      bands"
        ),
        BLOCK.format("", "EncoderDecoderFactory")
        .replace(" bands", " backbone_bands")
        .replace(" pretrained", " backbone_pretrained"),
    ),
    "aliases": (
        "bands: &bands [RED]\nname: &name prithvi_eo_tiny\n"
        + BLOCK.format("", "PrithviModelFactory")
        .replace("bands: [RED]", "bands: *bands")
        .replace("backbone: prithvi_eo_tiny", "backbone: *name"),
        "bands: &bands [RED]\nname: &name prithvi_eo_tiny\n"
        + BLOCK.format("", "EncoderDecoderFactory")
        .replace("bands: [RED]", "backbone_bands: *bands")
        .replace("backbone: prithvi_eo_tiny", "backbone: *name")
        .replace(" pretrained", " backbone_pretrained"),
    ),
}


def read(text: str, folder: Path) -> TaskConfig:
    """The config of a file with this text."""
    path = folder / "task.yaml"
    path.write_text(text)
    return TaskConfig.read(path)


@pytest.mark.parametrize(("old", "new"), TEXTS.values(), ids=TEXTS)
def test_only_what_must_change_changes(old: str, new: str, tmp_path: Path) -> None:
    config = read(old, tmp_path)
    assert config.full == new
    assert config.values == yaml.safe_load(new)
    # The pruned config differs from the converted one as it differs from any other.
    again = read(new, tmp_path)
    assert again.full is None
    for keep in (2, [0, 2]):
        pruned = simpler_config(config, keep, "p.json")
        assert pruned == simpler_config(again, keep, "p.json")
        arguments = yaml.safe_load(pruned)["model"]["init_args"]["model_args"]
        assert arguments["backbone"] == f"simpler_{again.backbone}"
        assert arguments["backbone_keep_blocks"] == keep


def test_the_text_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose, parsed = yaml.compose, []

    def count(*arguments: Any, **named: Any) -> Any:
        parsed.append(arguments)
        return compose(*arguments, **named)

    for name in ("load", "safe_load"):
        monkeypatch.setattr(yaml, name, None)
    monkeypatch.setattr(yaml, "compose", count)
    config = read(OLD, tmp_path)
    assert config.full == NEW
    assert "simpler_prithvi_eo_v2_300" in simpler_config(config, 5, "p.json")
    assert len(parsed) == 1


BARE = "backbone: prithvi_eo_tiny, bands: [RED]"
REFUSED = {
    "necks": (f"{BARE}, necks: []", "takes no necks: use EncoderDecoderFactory with them"),
    "features": (
        f"{BARE}, prepare_features_for_image_model: f",
        "prepare_features_for_image_model is no longer supported: use EncoderDecoderFactory with",
    ),
    "no bands": ("backbone: prithvi_eo_tiny", "needs bands: name the bands"),
    "another backbone": (
        "backbone: terramind_v1_tiny, bands: [RED]",
        "takes backbones that start with prithvi_, not terramind_v1_tiny",
    ),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_its_factory_does_not_take_is_refused(
    arguments: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"task.yaml uses model_factory 'Prithvi.*{reason}"):
        read(TASK.format(arguments), tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "base: &base {bands: [RED], num_frames: 1}\n"
            + TASK.format("<<: *base, backbone: prithvi_eo_tiny"),
            r"bands, num_frames of model\.init_args\.model_args in .* merge key .* write them into",
        ),
        (
            "base: &base {model_factory: PrithviModelFactory}\n"
            f"model: {{init_args: {{<<: *base, model_args: {{{BARE}}}}}}}\n",
            r"model_factory of model\.init_args in .* merge key .* write it into",
        ),
    ],
)
def test_merged_keys_that_would_have_to_go_are_refused(
    text: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        read(text, tmp_path)


OUT: dict[str, Any] = {"decoder_channels": 16, "num_classes": 3}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": (
        "segmentation",
        OUT | {"decoder": "UNetDecoder", "decoder_channels": [16, 8, 8, 4], "rescale": False},
    ),
    "upernet": ("segmentation", OUT | {"decoder": "UperNetDecoder", "head_dropout": 0.1}),
    "fcn": ("segmentation", OUT | {"decoder": "FCNDecoder", "backbone_out_indices": [1, 3]}),
    "regression": ("regression", {"decoder": "FCNDecoder", "decoder_channels": 16}),
    "classification": ("classification", {"decoder": "IdentityDecoder", "num_classes": 3}),
    "scalar": ("scalar_regression", {"decoder": "IdentityDecoder", "num_outputs": 2}),
    "lora": (
        "segmentation",
        OUT
        | {
            "decoder": "FCNDecoder",
            "peft_config": {
                "method": "LORA",
                "replace_qkv": "qkv",
                "peft_config_kwargs": {"target_modules": ["qkv.q_linear"], "r": 2},
            },
        },
    ),
}


QUICK = [("upernet", 3), ("classification", 1)]


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
        for case in itertools.product(MODELS, (1, 3))
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_converted_model_is_the_same(name: str, frames: int, tmp_path: Path) -> None:
    from terratorch.registry import MODEL_FACTORY_REGISTRY

    task, arguments = MODELS[name]
    given = {
        "backbone": "prithvi_eo_tiny",
        "backbone_img_size": 64,
        "pretrained": False,
        "bands": list(BANDS),
        "num_frames": frames,
    }
    init_args = {"model_factory": "PrithviModelFactory", "model_args": given | arguments}
    full = read(yaml.safe_dump({"model": {"init_args": init_args}}), tmp_path).full
    assert full is not None
    converted = yaml.safe_load(full)["model"]["init_args"]

    def build(init_args: dict[str, Any], seed: int) -> Any:
        torch.manual_seed(seed)
        factory: Any = MODEL_FACTORY_REGISTRY.build(init_args["model_factory"])
        return factory.build_model(task, **copy.deepcopy(init_args["model_args"])).eval()

    old, new = build(init_args, seed=0), build(converted, seed=1)
    shape = (2, 6, 64, 64) if frames == 1 else (2, 6, frames, 64, 64)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = old(image).output
        assert not torch.equal(new(image).output, expected)
        new.load_state_dict(old.state_dict(), strict=True)
        assert torch.equal(new(image).output, expected)
        old.load_state_dict(build(converted, seed=3).state_dict(), strict=True)
        # Nor does a cut that leaves nothing out change anything.
        uncut = {"backbone": "simpler_prithvi_eo_tiny", "backbone_keep_blocks": 4}
        converted["model_args"] |= uncut
        pruned = build(converted, seed=4)
        pruned.load_state_dict(new.state_dict(), strict=True)
        assert torch.equal(pruned(image).output, expected)
    assert list(old.state_dict()) == list(new.state_dict())
