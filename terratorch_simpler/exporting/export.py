"""``simpler.export``: a checkpoint in another format, proven before it gets its name."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from terratorch_simpler.exporting.checkpoint import read_checkpoint
from terratorch_simpler.exporting.formats import (
    FOLDERS,
    QUANTIZED,
    SUFFIXES,
    Format,
    Quantized,
)
from terratorch_simpler.files import check_free, staged
from terratorch_simpler.messages import Reporter, one_line

if TYPE_CHECKING:
    from terratorch_simpler.exporting.proof import Array, Proof
    from terratorch_simpler.exporting.source import Source

COLUMNS = ("model", "MB on disk", "ms a tile", "peak MB", "differs by")
TOLERANCE: dict[Format, float] = {
    "terratorch": 1e-6,
    "safetensors": 1e-6,
    "vllm": 1e-6,
    "pt2": 1e-4,
    "onnx": 1e-3,
}
"""Largest difference to the checkpoint's output, as a share of the largest value in it."""
QUANTIZED_TOLERANCE = 0.25
"""Root mean square of the difference of a quantised output, over the output's spread."""


@dataclass(frozen=True)
class Measured:
    """What a fresh process took for one tile.

    Attributes:
        name: ``full``, ``checkpoint`` or the format.
        megabytes: Size on disk, or of the weights where there is no file.
        milliseconds: Time of each round on one tile.
        peak_mb: The most memory that the process held; None where the system does not say.
        difference: Largest difference to the checkpoint's output; None for what is no export.
    """

    name: str
    megabytes: float
    milliseconds: list[float]
    peak_mb: float | None
    difference: float | None

    @property
    def row(self) -> tuple[str, ...]:
        """As a row of the table of :data:`COLUMNS`."""
        low, high = min(self.milliseconds), max(self.milliseconds)
        return (
            self.name,
            f"{self.megabytes:.1f}",
            f"{statistics.median(self.milliseconds):.1f} ({low:.1f} to {high:.1f})",
            "" if self.peak_mb is None else f"{self.peak_mb:.0f}",
            "" if self.difference is None else f"{self.difference:.2g}",
        )


@dataclass(frozen=True)
class Export:
    """What an export wrote, and what was seen of it.

    Attributes:
        format: Its format.
        files: Files and folders that were written.
        tile: What it was run on, in words.
        tolerance: How much its output may differ.
        measured: The full model, the checkpoint and the export.
        accuracy: For a quantised one, each metric on the validation tiles before and after.
    """

    format: Format
    files: tuple[Path, ...]
    tile: str
    tolerance: str
    measured: tuple[Measured, ...]
    accuracy: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def export(
    checkpoint: str | Path,
    to: Format,
    output: str | Path,
    *,
    config: str | Path | None = None,
    merge: bool = False,
    quantize: Quantized | None = None,
    opset: int | None = None,
    dynamic_size: bool = False,
    size: int | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Export:
    """Write the model of a checkpoint in another format, and prove it in a fresh process.

    The export is loaded by a process that does not have what it must do without, and its output
    for one tile is held against the checkpoint's. If that fails, nothing is written.

    Args:
        checkpoint: What a Lightning trainer saved of a TerraTorch task, pruned or full.
        to: ``terratorch`` (a config and a checkpoint for plain TerraTorch), ``safetensors`` (a
            folder for a model hub), ``onnx``, ``pt2`` (torch.export) or ``vllm`` (a folder for
            TerraTorch's plug-in of vLLM).
        output: File of ``onnx`` and ``pt2``, folder of the others.
        config: The task's config: its data gives the tile, and is written along.
        merge: Write LoRA's adapters into the weights.
        quantize: ``int8`` for ONNX, ``bf16`` for pt2; needs the config, for the accuracy.
        opset: Version of ONNX's operators.
        dynamic_size: Let an ONNX file take images of any height and width, where it can.
        size: Height and width of the tile, where there is no config.
        overwrite: Replace what is there.
        reporter: Is told how it goes.

    Raises:
        FileNotFoundError: If the checkpoint or the config does not exist.
        FileExistsError: If the output exists and ``overwrite`` is False.
        ValueError: If it cannot be exported, or its output differs too much.
    """
    path, reporter = Path(output), reporter or Reporter()
    check_options(to, path, quantize, opset, dynamic_size, config is not None, reporter)
    named = reporter.option("overwrite", True)
    check_free([path], overwrite, named)
    saved = read_checkpoint(checkpoint)
    from terratorch_simpler.exporting.source import read_source

    reporter.say("Building the model ...")
    source = read_source(saved, None if config is None else Path(config), merge, size)
    with staged(path, overwrite, named) as folder:
        reporter.say(f"Exporting to {to} ...")
        staged_path = folder / path.name
        _write(source, to, staged_path, quantize, opset, dynamic_size)
        reporter.say("Loading it in a fresh process ...")
        reference = _reference(source)
        measured, tolerance = _prove(source, to, staged_path, reference, quantize)
        if dynamic_size:
            _prove_other_size(source, to, staged_path, quantize, reporter)
        accuracy: Mapping[str, tuple[float, float]] = {}
        if quantize is not None:
            from terratorch_simpler.exporting.accuracy import compare_accuracy

            reporter.say("Validating before and after ...")
            accuracy = compare_accuracy(source, to, staged_path)
        reporter.say("Running the full model and the checkpoint, to compare ...")
        rows = (*_others(source), measured)
        if to == "safetensors":
            from terratorch_simpler.exporting.formats.safetensors import add_checked

            add_checked(source, staged_path, [one.row for one in rows], COLUMNS)
        files = tuple(path.parent / one.name for one in sorted(folder.iterdir()))
    return Export(to, files, source.tile, tolerance, rows, accuracy)


def check_options(
    to: str,
    path: Path,
    quantize: str | None,
    opset: int | None,
    dynamic_size: bool,
    has_config: bool,
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
        if not has_config:
            raise ValueError(
                f"{option('quantize', quantize)} needs {option('config')}: its validation tiles "
                "say what it costs"
            )
    if to == "onnx":
        from terratorch_simpler.exporting.formats.onnx import check_installed

        check_installed()


def _write(
    source: Source,
    to: Format,
    path: Path,
    quantize: Quantized | None,
    opset: int | None,
    dynamic_size: bool,
) -> None:
    """Write the format, a folder or a file."""
    from importlib import import_module

    module: Any = import_module(f"terratorch_simpler.exporting.formats.{to}")
    if to in FOLDERS:
        path.mkdir()
        module.write(source, path)
    elif to == "onnx":
        module.write(source, path, opset, dynamic_size, quantize)
    else:
        module.write(source, path, quantize)


def _reference(source: Source) -> Array:
    """The checkpoint's own output for the tile."""
    import torch

    from terratorch_simpler.exporting.source import Forward

    with torch.inference_mode():
        output: Array = Forward(source.model, source.names)(*source.inputs).numpy()
    return output


def _prove(
    source: Source, to: Format, path: Path, reference: Array, quantize: Quantized | None
) -> tuple[Measured, str]:
    """Run an export in a fresh process and hold its output against the checkpoint's.

    Raises:
        ValueError: If it does not run, or differs too much.
    """
    import numpy as np

    from terratorch_simpler.exporting.proof import (
        largest_difference,
        relative_difference,
        run_fresh,
    )

    proof = run_fresh(to, path, source)
    difference = largest_difference(proof.output, reference)
    if quantize is None:
        allowed = TOLERANCE[to] * float(np.abs(reference).max())
        found, tolerance = difference, f"{allowed:.2g} at most"
    else:
        found, allowed = relative_difference(proof.output, reference), QUANTIZED_TOLERANCE
        tolerance = f"{allowed:g} of the output's spread at most, {found:.2g} found"
    if not found <= allowed:
        raise ValueError(
            f"the output of the export differs from the checkpoint's by {found:.3g}, more than "
            f"{allowed:.3g}: nothing was written"
        )
    return _measured(to, _size(path), proof, difference), tolerance


def _prove_other_size(
    source: Source, to: Format, path: Path, quantize: Quantized | None, reporter: Reporter
) -> None:
    """Hold an export against the checkpoint on a larger tile as well.

    Raises:
        ValueError: If either cannot take it, or they differ too much.
    """
    other = source.of_other_size()
    side = other.inputs[0].shape[-1]
    try:
        _prove(other, to, path, _reference(other), quantize)
    except Exception as error:
        # The model raises what it likes at a size that it was not built for.
        raise ValueError(
            f"it does not take tiles of {side} px ({one_line(error, most=300)}): leave "
            f"{reporter.option('dynamic_size')} out, or export a backbone of timm that is built "
            "with dynamic_img_size"
        ) from error


def _others(source: Source) -> list[Measured]:
    """The full model and the checkpoint, each in a fresh process."""
    from terratorch_simpler.exporting.describe import full_name
    from terratorch_simpler.exporting.proof import run_fresh

    saved, found = source.saved, []
    megabytes = sum(value.nbytes for value in source.task.state_dict().values()) / 1e6
    if source.pruned is not None:
        from terratorch_simpler.exporting.plain import OURS

        arguments = {
            key: value for key, value in source.arguments["model_args"].items() if key not in OURS
        }
        arguments["backbone"] = full_name(arguments)
        proof = run_fresh("full", saved.path, source, model_args=arguments)
        found.append(_measured("full", proof.weights_mb, proof, None))
    proof = run_fresh("checkpoint", saved.path, source)
    return [*found, _measured("checkpoint", megabytes, proof, None)]


def _measured(name: str, megabytes: float, proof: Proof, difference: float | None) -> Measured:
    return Measured(name, megabytes, proof.milliseconds, proof.peak_mb, difference)


def _size(path: Path) -> float:
    """MB of a file with what lies beside it under the same name, or of a folder."""
    files: Sequence[Path] = [path, path.with_name(f"{path.name}.data")]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.exists()) / 1e6
