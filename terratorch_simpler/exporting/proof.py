"""The proof of an export: what a fresh process makes of it, held against the checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from terratorch_simpler.exporting.source import Source

Array = npt.NDArray[np.float32]

RUNNER = Path(__file__).with_name("runner.py")
ROUNDS = 5
OURS = ("terratorch_simpler",)
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "onnx": (*OURS, "terratorch", "torch"),
    "pt2": (*OURS, "terratorch"),
    "terratorch": OURS,
    "vllm": OURS,
}
"""Packages that each format has to do without."""


@dataclass(frozen=True)
class Proof:
    """What a fresh process made of a model.

    Attributes:
        output: What it gives for the tile.
        milliseconds: Time of each round on one tile.
        peak_mb: The most memory that the process held; None where the system does not say.
        weights_mb: Size of the weights, where there is no file of them; else 0.
    """

    output: Array
    milliseconds: list[float]
    peak_mb: float | None
    weights_mb: float


def start(request: Path) -> subprocess.CompletedProcess[str]:
    """Run a request in a process of its own."""
    # -P: the modules beside the script are not to be taken for those of the same name.
    line = [sys.executable, "-P", str(RUNNER), str(request)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def run_fresh(kind: str, path: Path, source: Source, **request: Any) -> Proof:
    """Run a model in a fresh process on the source's tile.

    Args:
        kind: What it is, as the runner calls it.
        path: The file or folder.
        source: Where the tile comes from.
        **request: What else the runner is told.

    Raises:
        ValueError: If the process fails, with the last line that it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, output = Path(folder) / "inputs.npz", Path(folder) / "output.npy"
        np.savez(inputs, *(tensor.numpy() for tensor in source.inputs))
        asked = Path(folder) / "request.json"
        content = {
            "kind": kind,
            "path": str(path.resolve()),
            "inputs": str(inputs),
            "output": str(output),
            "names": source.names,
            "rounds": ROUNDS,
            "forbidden": FORBIDDEN.get(kind, ()),
            "stand_in": find_spec("vllm") is None,
            **request,
        }
        asked.write_text(json.dumps(content))
        done = start(asked)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
            raise ValueError(f"the export does not run in a fresh process: {last}")
        said = json.loads(done.stdout.strip().splitlines()[-1])
        milliseconds = [1000 * second for second in said["seconds"]]
        return Proof(np.load(output), milliseconds, said["peak_mb"], said["weights_mb"] or 0.0)


def largest_difference(one: Array, other: Array) -> float:
    """Largest absolute difference of two outputs; infinite where their shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.max(np.abs(one.astype(np.float64) - other)))


def relative_difference(one: Array, other: Array) -> float:
    """Root mean square of the difference over the standard deviation of the second."""
    if one.shape != other.shape:
        return float("inf")
    spread = float(np.std(other.astype(np.float64)))
    error = float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))
    return error / spread if spread else error
