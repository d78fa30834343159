"""TerraTorch's model factories: which build a backbone by its registry name, and what others do."""

from __future__ import annotations

from pathlib import Path

ENCODER_DECODER = "EncoderDecoderFactory"
PRITHVI = "PrithviModelFactory"
BY_NAME = (ENCODER_DECODER, "ObjectDetectionModelFactory", PRITHVI)
"""Factories whose ``backbone`` is a name of the backbone registry, with ``backbone_*`` for it."""

_INSTEAD = {
    "Clay1_5ModelFactory": "builds Clay v1.5 by itself, whatever its backbone is called",
    "ClayModelFactory": "builds Clay by timm's name or from checkpoint_path",
    "FullModelFactory": "builds a whole model by its name in model, and reads no backbone",
    "GenericModelFactory": "takes what the registry builds for the whole model, without a decoder",
    "GenericUnetModelFactory": "builds a class of mmseg or of TerraTorch's own modules",
    "SMPModelFactory": "builds an encoder of segmentation_models_pytorch by that library's name",
    "SatMAEModelFactory": "builds SatMAE by timm's name or from its own source code",
    "TimmModelFactory": "builds timm's own classifier with its head, by timm's name",
    "WxCModelFactory": "builds Prithvi WxC from that model's own package",
}
"""What the others do instead."""


def check_factory(factory: object, path: Path) -> None:
    """Refuse a factory that builds no backbone by its registry name.

    Args:
        factory: ``model_factory`` of a config.
        path: The config, for the message.

    Raises:
        ValueError: With what it does instead, and the way out.
    """
    if factory in BY_NAME:
        return
    if factory is None:
        what = "names no model_factory in model.init_args"
    else:
        does = _INSTEAD.get(str(factory), "is none of TerraTorch's")
        what = f"uses model_factory {factory!r}, which {does}"
    raise ValueError(
        f"{path} {what}: to prune, use {ENCODER_DECODER} (ObjectDetectionModelFactory for boxes) "
        "with a backbone of TerraTorch's registry; 'terratorch-simpler backbones' lists which can "
        "be cut"
    )
