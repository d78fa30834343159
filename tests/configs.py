"""Configs of other model factories than EncoderDecoderFactory, with what they read."""

from __future__ import annotations

import json
from pathlib import Path

from tests.rasters import write_tiles

DETECTION = """\
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_checkpointing: false
data:
  class_path: terratorch.datamodules.GenericNonGeoObjectDetectionDataModule
  init_args:
    batch_size: 1
    num_workers: 0
    num_classes: 3
    train_data_root: TILES
    val_data_root: TILES
    test_data_root: TILES
    img_grep: "*.tif"
    means: [1800, 1800, 1800, 1800, 1800, 1800]
    stds: [400, 400, 400, 400, 400, 400]
    train_transform: [{class_path: ToTensorV2}]
    val_transform: [{class_path: ToTensorV2}]
    test_transform: [{class_path: ToTensorV2}]
model:
  class_path: terratorch.tasks.ObjectDetectionTask
  init_args:
    model_factory: ObjectDetectionModelFactory
    model_args:
      framework: faster-rcnn
      framework_min_size: 64
      framework_max_size: 64
      backbone: prithvi_eo_tiny
      backbone_img_size: 64
      backbone_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]
      necks:
        - name: ReshapeTokensToImage
        - name: LearnedInterpolateToPyramidal
        - {name: FeaturePyramidNetworkNeck, out_channel: 32}
      num_classes: 3
"""
"""A config that detects objects."""


def write_detection(folder: Path) -> Path:
    """Write images, two boxes in each, and a config that detects them; gives the config."""
    tiles = write_tiles(folder / "tiles", 8)
    for image in tiles.glob("*.tif"):
        boxes = {"boxes": [[4, 4, 30, 30], [10, 8, 60, 50]], "labels": [1, 2]}
        image.with_suffix(".json").write_text(json.dumps(boxes))
    config = folder / "task.yaml"
    config.write_text(DETECTION.replace("TILES", str(tiles)))
    return config


def write_legacy(folder: Path, text: str) -> Path:
    """Write the config of the embedded sample as an older one, of PrithviModelFactory.

    It loads weights unless it is told not to, and has its backbone make images of its tokens.
    """
    start, end = text.index("      necks:"), text.index("      decoder:")
    edits = {
        text[start:end]: "",
        "EncoderDecoderFactory": "PrithviModelFactory",
        "      backbone_pretrained: true\n": "",
        "backbone_bands:": "in_channels: 6  # as many\n      bands:",
        "UNetDecoder\n      decoder_channels: [128, 64, 32, 32]": (
            "FCNDecoder\n      decoder_channels: 16"
        ),
    }
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    config = folder / "task.yaml"
    config.write_text(text)
    return config
