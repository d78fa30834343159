"""What is seen of an export: its output beside the checkpoint's, its size, time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from terratorch_simpler.exporting.formats import Format, Quantized
from terratorch_simpler.exporting.load import full_name
from terratorch_simpler.exporting.plain import OURS
from terratorch_simpler.exporting.proof import (
    Array,
    Proof,
    largest_difference,
    relative_difference,
    run_fresh,
)
from terratorch_simpler.exporting.source import Forward, Source
from terratorch_simpler.messages import Reporter, one_line

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
        name: ``full``, ``checkpoint`` (``config``, where that was exported) or the format.
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


def reference_output(source: Source) -> Array:
    """The checkpoint's own output for the tile."""
    with torch.inference_mode():
        output: Array = Forward(source.model, source.names)(*source.inputs).numpy()
    return output


def prove(
    source: Source, to: Format, path: Path, reference: Array, quantize: Quantized | None
) -> tuple[Measured, str]:
    """Run an export in a fresh process and hold its output against the checkpoint's.

    Raises:
        ValueError: If it does not run, or differs too much.
    """
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
    return _measured(to, size_mb(path), proof, difference), tolerance


def prove_other_size(
    source: Source, to: Format, path: Path, quantize: Quantized | None, reporter: Reporter
) -> None:
    """Hold an export against the checkpoint on a larger tile as well.

    Raises:
        ValueError: If either cannot take it, or they differ too much.
    """
    other = source.of_other_size()
    side = other.inputs[0].shape[-1]
    try:
        prove(other, to, path, reference_output(other), quantize)
    except Exception as error:
        # The model raises what it likes at a size that it was not built for.
        raise ValueError(
            f"it does not take tiles of {side} px ({one_line(error, most=300)}): leave "
            f"{reporter.option('dynamic_size')} out, or export a backbone of timm that is built "
            "with dynamic_img_size"
        ) from error


def compare(source: Source) -> list[Measured]:
    """The full model and the checkpoint, each in a fresh process."""
    saved, found = source.saved, []
    megabytes = sum(value.nbytes for value in source.task.state_dict().values()) / 1e6
    if source.pruned is not None:
        arguments = {
            key: value for key, value in source.arguments["model_args"].items() if key not in OURS
        }
        arguments["backbone"] = full_name(arguments)
        proof = run_fresh("full", saved.file, source, model_args=arguments)
        found.append(_measured("full", proof.weights_mb, proof, None))
    proof = run_fresh("checkpoint", saved.file, source)
    return [*found, _measured(saved.kind, megabytes, proof, None)]


def _measured(name: str, megabytes: float, proof: Proof, difference: float | None) -> Measured:
    return Measured(name, megabytes, proof.milliseconds, proof.peak_mb, difference)


def size_mb(path: Path) -> float:
    """MB of a file with what lies beside it under the same name, or of a folder."""
    files: Sequence[Path] = [path, path.with_name(f"{path.name}.data")]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.exists()) / 1e6
