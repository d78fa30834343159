"""Every config of `configs/` runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import BRIEF, CONFIGS, SAMPLES, Terratorch

pytestmark = pytest.mark.integration

SAMPLE = sorted((CONFIGS / "sample").glob("*.yaml"))
LARGE = sorted((CONFIGS / "prithvi_300").glob("*.yaml"))
PREDICT = {
    "segmentation": [f"--data.init_args.predict_data_root={SAMPLES}/val/images"],
    "regression": [f"--data.init_args.predict_data_root={SAMPLES}/val/images"],
    "classification": [f"--data.init_args.predict_data_root.S2L1C={SAMPLES}/val/images"],
}


@pytest.mark.parametrize("config", SAMPLE, ids=lambda path: path.stem)
def test_the_sample_configs_fit_test_and_predict(
    config: Path, terratorch: Terratorch, tmp_path: Path
) -> None:
    root = (f"--trainer.default_root_dir={tmp_path}",)
    saved = ("--trainer.enable_checkpointing=true",)
    fitted = terratorch("fit", "-c", config, *BRIEF, *root, *saved)
    depth = len(fitted.model.model.encoder.blocks)
    assert (depth < 12) == config.stem.endswith("_simpler")
    (checkpoint,) = (path for path in tmp_path.rglob("*.ckpt") if "state_dict" not in path.name)
    tested = terratorch("test", "-c", config, *BRIEF, *root, "--ckpt_path", checkpoint)
    assert len(tested.model.model.encoder.blocks) == depth
    predict = PREDICT[config.stem.removesuffix("_simpler")]
    output = ("--predict_output_dir", tmp_path / "predicted")
    terratorch("predict", "-c", config, *BRIEF, *predict, *output, "--ckpt_path", checkpoint)
    assert any((tmp_path / "predicted").iterdir())


@pytest.mark.parametrize("config", LARGE, ids=lambda path: path.stem)
def test_the_300m_configs_train_a_step(
    config: Path, terratorch: Terratorch, tmp_path: Path
) -> None:
    regression = config.stem.startswith("regression")
    if config.stem.startswith("classification"):
        data = [f"--data.init_args.{split}_data_root={_by_class(tmp_path)}" for split in SPLITS]
    else:
        labels = "ndre" if regression else "landuse"
        data = [
            f"--data.init_args.{split}_{what}={SAMPLES}/train/{folder}"
            for split in SPLITS
            for what, folder in (("data_root", "images"), ("label_data_root", labels))
        ]
    small = ("--data.init_args.batch_size=1", "--data.init_args.num_workers=0")
    random = ("--model.init_args.model_args.backbone_pretrained=false",)
    simpler = config.stem.endswith("_simpler")
    if not simpler:
        # Training all 24 blocks takes long here; that the task builds is what there is to see.
        arguments = yaml.safe_load(config.read_text())["model"]["init_args"]["model_args"]
        assert arguments["backbone"] == "prithvi_eo_v2_300"
        return
    fitted = terratorch(
        "fit", "-c", config, *BRIEF, *data, *small, *random,
        "--trainer.logger=false", "--trainer.enable_checkpointing=false",
    )  # fmt: skip
    assert len(fitted.model.model.encoder.blocks) == 5
    assert fitted.trainer.global_step == 1


SPLITS = ("train", "val", "test")


def _by_class(folder: Path) -> Path:
    """A folder a class, as the classification datamodule wants it."""
    tiles = sorted((SAMPLES / "train" / "images").glob("*.tif"))
    for index, tile in enumerate(tiles[:8]):
        target = folder / "classes" / f"class_{index % 4}" / tile.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(tile)
    return folder / "classes"


@pytest.mark.parametrize(
    "config", [path for path in SAMPLE + LARGE if not path.stem.endswith("_simpler")],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)  # fmt: skip
def test_the_pruned_config_differs_only_in_backbone_and_callback(config: Path) -> None:
    full = yaml.safe_load(config.read_text())
    pruned = yaml.safe_load(config.with_stem(f"{config.stem}_simpler").read_text())
    assert pruned["trainer"].pop("callbacks") == [
        {"class_path": "terratorch_simpler.SimplerCallback"}
    ]
    arguments = pruned["model"]["init_args"]["model_args"]
    for key in ("backbone_keep_blocks", "backbone_calibration"):
        arguments.pop(key, None)
    arguments["backbone"] = arguments["backbone"].removeprefix("simpler_")
    assert pruned == full


def test_the_demo_uses_the_sample_config() -> None:
    shipped = (SAMPLES / "segmentation.yaml").read_text()
    assert shipped == (CONFIGS / "sample" / "segmentation.yaml").read_text()
