"""Every config of `configs/` runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
import yaml

from tests.integration.conftest import BRIEF, CONFIGS, SAMPLES, Terratorch

NARROW = "prithvi_eo_v2_tiny_tl"
SAMPLE = sorted((CONFIGS / "sample").glob("*.yaml"))
LARGE = sorted(
    path
    for path in (CONFIGS / "prithvi_300").glob("*.yaml")
    if not path.stem.startswith("multitemporal")
)
PREDICT = {
    "segmentation": [f"--data.init_args.predict_data_root={SAMPLES}/val/images"],
    "regression": [f"--data.init_args.predict_data_root={SAMPLES}/val/images"],
    "classification": [f"--data.init_args.predict_data_root.S2L1C={SAMPLES}/val/images"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(path, marks=() if path.stem.endswith("_simpler") else pytest.mark.long)
        for path in SAMPLE
    ],
    ids=lambda path: path.stem,
)
def test_the_sample_configs_fit_test_and_predict(
    config: Path, terratorch: Terratorch, tmp_path: Path
) -> None:
    fitted = terratorch("fit", "-c", config, *BRIEF, "--trainer.enable_checkpointing=true")
    depth = len(fitted.model.model.encoder.blocks)
    assert (depth < 12) == config.stem.endswith("_simpler")
    (checkpoint,) = (path for path in tmp_path.rglob("*.ckpt") if "state_dict" not in path.name)
    tested = terratorch("test", "-c", config, *BRIEF, "--ckpt_path", checkpoint)
    assert len(tested.model.model.encoder.blocks) == depth
    predict = PREDICT[config.stem.removesuffix("_simpler")]
    output = ("--predict_output_dir", tmp_path / "predicted")
    terratorch("predict", "-c", config, *BRIEF, *predict, *output, "--ckpt_path", checkpoint)
    assert any((tmp_path / "predicted").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("config", LARGE, ids=lambda path: path.stem)
def test_the_300m_configs_train_a_step(
    config: Path, terratorch: Terratorch, tmp_path: Path
) -> None:
    """One of them with the model itself, the others with one as deep that is narrow."""
    regression = config.stem.startswith("regression")
    if config.stem.startswith("classification"):
        classes = _by_class(tmp_path)
        data = [f"--data.init_args.{split}_data_root={classes}" for split in SPLITS]
    else:
        labels = "ndre" if regression else "landuse"
        data = [
            f"--data.init_args.{split}_{what}={SAMPLES}/train/{folder}"
            for split in SPLITS
            for what, folder in (("data_root", "images"), ("label_data_root", labels))
        ]
    # Pre-trained weights are a download; the sample has small tiles and few of them.
    offline = tmp_path / config.name
    text = config.read_text().replace("pretrained: true", "pretrained: false")
    if config.stem != "segmentation_unet_simpler":
        text = text.replace("prithvi_eo_v2_300", f"{NARROW}\n      backbone_depth: 24")
    offline.write_text(text)
    fitted = terratorch(
        "fit", "-c", offline, *BRIEF, *data,
        "--data.init_args.batch_size=2", "--data.init_args.num_workers=0",
        "--trainer.fast_dev_run=true",
    )  # fmt: skip
    blocks = fitted.model.model.encoder.blocks
    assert len(blocks) == (5 if config.stem.endswith("_simpler") else 24)
    assert fitted.trainer.global_step == 1


SPLITS = ("train", "val", "test")


def _by_class(folder: Path) -> Path:
    """A folder a class, in the one layout that TerraTorch reads all bands of: float, by pixel."""
    for index, tile in enumerate(sorted((SAMPLES / "train" / "images").glob("*.tif"))[:8]):
        target = folder / "classes" / f"class_{index % 4}" / tile.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(tile) as source:
            profile = source.profile | {"dtype": "float32", "interleave": "pixel", "predictor": 1}
            with rasterio.open(target, "w", **profile) as copy:
                copy.write(source.read().astype("float32"))
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
