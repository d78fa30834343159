"""Options of an export: which go together, and where its tile comes from."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from terratorch_simpler.exporting.formats import FOLDERS, QUANTIZED, SUFFIXES, Format
from terratorch_simpler.exporting.tile import read_config
from terratorch_simpler.exporting.untrained import is_config
from terratorch_simpler.messages import Reporter


def check_options(
    to: str,
    path: Path,
    quantize: str | None,
    opset: int | None,
    dynamic_size: bool,
    has_data: bool,
    reporter: Reporter,
) -> None:
    """Refuse options that do not go together, before anything is loaded.

    Raises:
        ValueError: With the option.
    """
    option = reporter.option
    if to not in get_args(Format):
        raise ValueError(f"unknown format {to!r}: choose one of {', '.join(get_args(Format))}")
    suffix = SUFFIXES.get(to)  # type: ignore[call-overload]
    if suffix is not None and path.suffix != suffix:
        raise ValueError(f"{path} is to be a file of {to}: let its name end in {suffix}")
    if to in FOLDERS and path.suffix in (".onnx", ".pt2", ".ckpt", ".safetensors"):
        raise ValueError(f"{path} looks like a file, and {to} is written as a folder: name one")
    for value, name in ((opset, "opset"), (dynamic_size or None, "dynamic_size")):
        if value is not None and to != "onnx":
            raise ValueError(f"{option(name)} is for onnx, not for {to}: leave it out")
    if quantize is not None:
        kinds = QUANTIZED.get(to, ())  # type: ignore[call-overload]
        if quantize not in kinds:
            able = "; ".join(f"{name} to {', '.join(can)}" for name, can in QUANTIZED.items())
            raise ValueError(f"{to} cannot be quantised to {quantize}: {able}")
        if not has_data:
            raise ValueError(
                f"{option('quantize', quantize)} needs the data of a config ({option('config')}): "
                "its validation tiles say what it costs"
            )
    if to == "onnx":
        from terratorch_simpler.exporting.formats.onnx import check_installed

        check_installed()


def data_config(
    checkpoint: str | Path, config: str | Path | None, reporter: Reporter
) -> Path | None:
    """The config whose data give the tile; None where there is none.

    Raises:
        FileNotFoundError: If a config is exported that does not exist.
        ValueError: If a config is exported, and another one named.
    """
    if not is_config(checkpoint):
        return None if config is None else Path(config)
    if config is not None:
        raise ValueError(
            f"{checkpoint} is a config itself, whose data give the tile: leave "
            f"{reporter.option('config')} out, or name a checkpoint in its place"
        )
    return Path(checkpoint) if "data" in read_config(Path(checkpoint)) else None
