"""A config in the place of a checkpoint: the backbone's weights, and a head that knows nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.exporting import measure
from terratorch_simpler.exporting.source import read_source
from terratorch_simpler.exporting.untrained import UNTRAINED, untrained
from tests.conftest import TINY, MakePlan
from tests.exporting.conftest import BACKBONE, SIZE, UNET

Written = Callable[..., Path]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any]) -> Path:
    """Weights of a full backbone, as a file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(build(img_size=SIZE, bands=BACKBONE["backbone_bands"]).state_dict(), path)
    return path


@pytest.fixture
def written(tmp_path: Path, weights: Path) -> Written:
    """Writes a config without data; ``name`` and ``arguments`` are those of its backbone."""

    def write(name: str = f"simpler_{TINY}", **arguments: Any) -> Path:
        model_args = {"backbone": name, **BACKBONE, **UNET, "num_classes": 3}
        model_args |= {"backbone_pretrained": True, "backbone_ckpt_path": str(weights)}
        given = {"model_factory": "EncoderDecoderFactory", "model_args": model_args | arguments}
        task = {"class_path": "terratorch.tasks.SemanticSegmentationTask", "init_args": given}
        path = tmp_path / "task.yaml"
        path.write_text(yaml.safe_dump({"seed_everything": 0, "model": task}))
        return path

    return write


def test_it_is_the_model_with_which_a_run_begins(
    written: Written, weights: Path, make_plan: MakePlan, tmp_path: Path
) -> None:
    own: dict[str, Any] = {
        "img_size": SIZE,
        "bands": BACKBONE["backbone_bands"],
        "pretrained": True,
    }
    full = load_backbone(TINY, **own, ckpt_path=str(weights))
    plan = make_plan(4, fingerprint=full.fingerprint())
    plan.save(tmp_path / "plan.json")
    # The plan is found beside the config; the working directory is another one.
    config = written(backbone_plan="plan.json")
    with untrained(config) as saved:
        file = saved.file
        assert file.is_file()
        assert (saved.path, saved.plan, saved.trained) == (config, plan, False)
        assert saved.model_args["backbone_keep_blocks"] == 4
        assert "backbone_plan" not in saved.model_args
        source = read_source(saved, None, False, None)
    assert not file.exists()
    stored = torch.load(weights, weights_only=True)
    found = source.model.encoder.state_dict()
    assert {int(name.split(".")[1]) for name in found if name.startswith("blocks.")} == {*range(4)}
    assert all(torch.equal(value, stored[name]) for name, value in found.items())
    assert not source.deployment.trained
    assert source.parent.file == weights.name


def test_without_a_plan_it_is_the_full_model(written: Written) -> None:
    with untrained(written(TINY)) as saved:
        source = read_source(saved, None, False, None)
    assert source.pruned is None
    assert len(source.model.encoder.blocks) == 12


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_what_is_written_says_that_it_is_not_trained(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "compare", lambda _source: [])
    output = tmp_path / "out"
    done = simpler.export(written(backbone_keep_blocks=3), "safetensors", output)
    assert not done.trained
    assert done.measured[0].difference == 0
    card = (output / "README.md").read_text()
    assert "not trained yet: its decoder and head have random weights" in card
    assert "The backbone has the weights in a file `tiny.pt`." in card
    assert "Fine-tuned" not in card
    model = simpler.HubModel.from_pretrained(output)
    assert not model.deployment.trained
    with untrained(written(backbone_keep_blocks=3)) as saved:
        # The same numbers for the decoder and the head too: the config is seeded.
        for name, value in model.model.state_dict().items():
            assert torch.equal(value, saved.state_dict[f"model.{name}"])


def test_the_config_for_plain_terratorch_says_so_too(written: Written, tmp_path: Path) -> None:
    from terratorch_simpler.exporting.formats import terratorch

    with untrained(written(backbone_keep_blocks=3)) as saved:
        terratorch.write(read_source(saved, None, False, None), tmp_path)
    assert f"# {UNTRAINED}\n" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"backbone_plan": "gone.json"}, {}, "no plan at gone.json (backbone_plan): make it with"),
        ({}, {}, "does not say how deep: give backbone_keep_blocks"),
        (
            {"backbone_keep_blocks": 3},
            {"config": "other.yaml"},
            "task.yaml is a config itself, whose data give the tile: leave config out",
        ),
        (
            {"backbone_keep_blocks": 3},
            {"quantize": "bf16"},
            "needs the data of a config (config): its validation",
        ),
    ],
)
def test_configs_that_cannot_be_exported_are_refused(
    written: Written,
    tmp_path: Path,
    changes: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    config = written(**changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        simpler.export(config, "pt2", tmp_path / "out.pt2", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["task.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {}", "is no TerraTorch task config: it has no model.init_args.model_args"),
        ("- 1", "is no TerraTorch task config: it has no model.init_args.model_args"),
        ("a: [", "is not YAML"),
        (
            "model: {class_path: terratorch.tasks.NoTask, init_args: {model_args: {}}}",
            "TerraTorch cannot build the task of",
        ),
        (None, "no config at"),
    ],
)
def test_what_is_no_config_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    config = tmp_path / "task.yaml"
    if text is not None:
        config.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        simpler.export(config, "pt2", tmp_path / "out" / "out.pt2")
    assert not (tmp_path / "out").exists()
