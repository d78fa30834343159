"""An exported model in onnxruntime, and what it says of itself."""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.messages import one_line
from terratorch_simpler.results.deployment import METADATA_KEY, OF_PIXELS, Deployment, ModelInput
from terratorch_simpler.tiles.grid import Image

EXPORT = "terratorch-simpler export CHECKPOINT --to onnx --output model.onnx"


class OnnxModel:
    """A model that was exported for maps.

    Args:
        path: The ONNX file.
        num_threads: Threads of its operators; 0 for as many as there are cores.

    Attributes:
        path: The file.
        deployment: What it expects and gives.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no ONNX file, says nothing of itself, or gives no map.
    """

    def __init__(self, path: str | Path, num_threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no exported model at {path}: make one with '{EXPORT}'")
        self._session = _open(self.path, num_threads)
        self.deployment = _described(self._session, self.path)
        _check(self._session, self.deployment, self.path)
        batch = self._session.get_inputs()[0].shape[0]
        self._batch = batch if isinstance(batch, int) else None

    def batch_size(self, asked: int) -> int:
        """Windows of one run: as many as were asked for, unless the file has its own number."""
        return self._batch or asked

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, and of the weights that may lie beside it."""
        digest = hashlib.sha256()
        for path in (self.path, self.path.with_name(f"{self.path.name}.data")):
            if path.is_file():
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def run(self, windows: list[Image]) -> Image:
        """Outputs of some windows.

        Args:
            windows: Each in the units of the files, the bands of all inputs after each other, and
                those of one time step after those of the one before: [bands, height, width].

        Returns:
            float32: [windows, channels, height, width].

        Raises:
            ValueError: If the model fails, or gives something of another shape.
        """
        pixels = np.stack(windows)
        count, _, *size = pixels.shape
        if self._batch is not None and count < self._batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[:1], self._batch - count, axis=0)])
        feeds: dict[str, Image] = {}
        steps = self.deployment.inputs[0].frames or 1
        # [windows, time, bands, height, width]
        pixels = pixels.reshape(len(pixels), steps, -1, *size)
        first = 0
        for entry in self.deployment.inputs:
            feeds[entry.name] = _normalised(pixels[:, :, first : first + entry.channels], entry)
            first += entry.channels
        name = self.deployment.output.name
        try:
            output = np.asarray(self._session.run([name], feeds)[0], np.float32)[:count]
        except Exception as error:
            raise ValueError(
                f"{self.path} failed on {count} windows of {size[0]} x {size[1]} px "
                f"({one_line(error)}): export it for this size, or with --batch_size 1"
            ) from error
        if self.deployment.task == "regression" and output.ndim == 3:
            output = output[:, None]
        expected = (count, self.deployment.output.channels, *size)
        if output.shape != expected:
            raise ValueError(
                f"{self.path} gives {list(output.shape)} where its record says {list(expected)} "
                f"([windows, channels, height, width]): export it again with '{EXPORT}'"
            )
        return output


def _normalised(pixels: NDArray[np.float32], entry: ModelInput) -> Image:
    """Pixels [windows, time, channels, ...] as the input takes them."""
    if entry.means is not None and entry.stds is not None:
        shape = (-1, 1, 1)
        means = np.array(entry.means, np.float32).reshape(shape)
        pixels = (pixels - means) / np.array(entry.stds, np.float32).reshape(shape)
    pixels = pixels[:, 0] if entry.frames is None else pixels.swapaxes(1, 2)
    return np.ascontiguousarray(pixels)


def _open(path: Path, num_threads: int) -> Any:
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise ValueError(
            f"maps are made by onnxruntime, which cannot be imported ({one_line(error)}): "
            "pip install onnxruntime"
        ) from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    # Memory of one batch is not kept for good, where a larger one has come before.
    options.enable_cpu_mem_arena = False
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(
            f"{path} is not an ONNX file that onnxruntime {runtime.__version__} can open "
            f"({one_line(error)}): make one with '{EXPORT}'; weights in a file beside it must "
            "lie there"
        ) from error


def _described(session: Any, path: Path) -> Deployment:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        inputs = ", ".join(f"{entry.name} {entry.shape}" for entry in session.get_inputs())
        raise ValueError(
            f"{path} is an ONNX file, but nothing in it says which bands it reads and how they are "
            f"normalised (metadata '{METADATA_KEY}'; its inputs: {inputs}): make one with "
            f"'{EXPORT}'"
        )
    deployment = Deployment.from_json(text, str(path))
    if deployment.task not in OF_PIXELS:
        raise ValueError(
            f"{path} is a model of {deployment.task}: it says one thing of a whole tile, which "
            "makes no map. Run it on tiles of its size with onnxruntime, normalised as "
            f"{path.stem}.json says"
        )
    return deployment


def _check(session: Any, deployment: Deployment, path: Path) -> None:
    """Refuse a file whose record and graph do not go together."""
    there = {entry.name: entry for entry in session.get_inputs()}
    named = {entry.name for entry in deployment.inputs}
    outputs = {entry.name for entry in session.get_outputs()}
    if set(there) != named or deployment.output.name not in outputs:
        raise ValueError(
            f"{path} has inputs {sorted(there)} and outputs {sorted(outputs)}, its record says "
            f"{sorted(named)} and {deployment.output.name}: export it again with '{EXPORT}'"
        )
    for entry in deployment.inputs:
        times = () if entry.frames is None else (entry.frames,)
        said = (entry.channels, *times, entry.height, entry.width)
        shape = tuple(there[entry.name].shape[1:])
        differs = len(shape) != len(said) or any(
            isinstance(has, int) and has != says for has, says in zip(shape, said, strict=True)
        )
        if differs or there[entry.name].type != "tensor(float)":
            raise ValueError(
                f"{path} reads {entry.name} as {there[entry.name].type} {list(shape)}, its record "
                f"says float {list(said)}: export it again with '{EXPORT}'"
            )
