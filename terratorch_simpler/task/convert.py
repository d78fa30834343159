"""A config of the deprecated PrithviModelFactory as one of EncoderDecoderFactory: the same model.

TerraTorch's ``PrithviModelFactory`` renames some of its arguments and hands everything on to
``EncoderDecoderFactory``, without necks: the backbone reshapes its tokens itself. It takes no name
that does not start with ``prithvi_``, so that no pruned backbone can be used with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from terratorch_simpler.task.edits import Edit, get, put, rename, replace, take_out
from terratorch_simpler.task.factories import ENCODER_DECODER, PRITHVI

RENAMED = {
    "bands": "backbone_bands",
    "in_channels": "backbone_in_chans",
    "num_frames": "backbone_num_frames",
    "pretrained": "backbone_pretrained",
}
"""What PrithviModelFactory hands on under another name, over whatever has that name already."""

DEFAULTS = {"backbone_pretrained": True}
"""What it hands on unasked, and the backbone would not do by itself."""

UNSUPPORTED = "prepare_features_for_image_model"
"""An argument that it only takes unset."""


def is_converted(init_args: dict[str, Any]) -> bool:
    """Whether a task is built by the factory that is to be replaced."""
    return init_args.get("model_factory") == PRITHVI


def convert_arguments(model_args: dict[str, Any]) -> dict[str, Any]:
    """The ``model_args`` of PrithviModelFactory as those of EncoderDecoderFactory."""
    gone = {UNSUPPORTED, *RENAMED.values()}
    kept = {RENAMED.get(key, key): value for key, value in model_args.items() if key not in gone}
    return DEFAULTS | kept


def check_convertible(model_args: dict[str, Any], path: Path) -> None:
    """Refuse ``model_args`` that TerraTorch's PrithviModelFactory does not take.

    Args:
        model_args: As the config has them.
        path: The config, for the message.

    Raises:
        ValueError: With the key and the reason.
    """
    reason = None
    if model_args.get(UNSUPPORTED):
        reason = f"{UNSUPPORTED} is no longer supported: use EncoderDecoderFactory with necks"
    elif "necks" in model_args:
        reason = "it takes no necks: use EncoderDecoderFactory with them"
    elif "bands" not in model_args:
        reason = "it needs bands: name the bands that the backbone reads in model_args"
    elif not str(model_args["backbone"]).startswith("prithvi_"):
        reason = (
            f"it takes backbones that start with prithvi_, not {model_args['backbone']}: use "
            "EncoderDecoderFactory"
        )
    if reason is not None:
        raise ValueError(f"{path} uses model_factory '{PRITHVI}', and {reason}")


def conversion(text: str, root: yaml.Node, values: dict[str, Any], path: Path) -> list[Edit]:
    """Edits that make a config of PrithviModelFactory one of EncoderDecoderFactory.

    Args:
        text: Its YAML.
        root: The same as nodes.
        values: The same as values.
        path: Where it lies, for messages.

    Raises:
        ValueError: If it cannot be converted, with the key and the reason.
    """
    given = values["model"]["init_args"]["model_args"]
    check_convertible(given, path)
    init_args = get(get(root, "model"), "init_args")
    arguments = get(init_args, "model_args")
    _check_own(init_args, ["model_factory"], "model.init_args", path)
    wanted = {"backbone", UNSUPPORTED, *RENAMED, *RENAMED.values()}
    _check_own(arguments, sorted(wanted & given.keys()), "model.init_args.model_args", path)
    assert isinstance(init_args, yaml.MappingNode)
    assert isinstance(arguments, yaml.MappingNode)
    edits = [replace(text, init_args, "model_factory", ENCODER_DECODER)]
    edits += [
        take_out(text, arguments, key, beside="backbone")
        for key in (UNSUPPORTED, *RENAMED.values())
        if key in given
    ]
    edits += [rename(text, arguments, key, new) for key, new in RENAMED.items() if key in given]
    if "pretrained" not in given:
        edits.append(put(text, arguments, ["backbone_pretrained: true"], after="backbone"))
    return edits


def _check_own(node: yaml.Node | None, keys: list[str], where: str, path: Path) -> None:
    """Refuse keys that are merged in: what is merged can only be added to."""
    merged = [key for key in keys if get(node, key) is None]
    if merged:
        raise ValueError(
            f"{', '.join(merged)} of {where} in {path} comes from a merge key (<<), and cannot be "
            f"converted there: write {'it' if len(merged) == 1 else 'them'} into {where}"
        )
