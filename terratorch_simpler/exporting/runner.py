"""Run an exported model once more, in a process that knows nothing else: a script, no module.

``python -P runner.py REQUEST.json`` loads what the request names, runs it on the arrays in
``inputs`` (.npz), writes what it gives to ``output`` (.npy), and prints one line of JSON: seconds
of every round and the most memory that the process held. It imports nothing of the package that
made the export, and where the request forbids a package, importing it fails.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[list[np.ndarray]], np.ndarray]


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Load, run and time."""
    for name in request["forbidden"]:
        # Python takes None for a module that is not there.
        sys.modules[name] = None  # type: ignore[assignment]
    with np.load(request["inputs"]) as stored:
        inputs = [stored[name] for name in stored.files]
    run = LOADERS[request["kind"]](Path(request["path"]), request)
    output = run(inputs)
    np.save(request["output"], output)
    seconds = []
    for _ in range(request["rounds"]):
        start = time.perf_counter()
        run(inputs)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "peak_mb": peak_mb(), "weights_mb": request.get("weights_mb")}


def peak_mb() -> float | None:
    """The most memory that this process held, in MB; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What getrusage says on Linux begins with the memory of the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def _onnx(path: Path, request: dict[str, Any]) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(inputs: list[np.ndarray]) -> np.ndarray:
        given = dict(zip(names, inputs, strict=True))
        return np.asarray(session.run(None, given)[0])

    return run


def _pt2(path: Path, request: dict[str, Any]) -> Run:
    import torch

    return _torch(torch.export.load(path).module(), None)


def _terratorch(path: Path, request: dict[str, Any]) -> Run:
    from importlib import import_module

    import terratorch.tasks  # noqa: F401 - registers what configs name
    import yaml

    values = yaml.safe_load((path / "config.yaml").read_text())
    module, _, name = values["model"]["class_path"].rpartition(".")
    task = getattr(import_module(module), name).load_from_checkpoint(
        path / "model.ckpt", map_location="cpu"
    )
    return _torch(task.model.eval(), request["names"])


def _safetensors(path: Path, request: dict[str, Any]) -> Run:
    from terratorch_simpler.exporting.hub import HubModel

    return _torch(HubModel.from_pretrained(path).model, request["names"])


def _vllm(path: Path, request: dict[str, Any]) -> Run:
    import types

    import torch

    if request["stand_in"]:
        # TerraTorch's reader asks vLLM for its version, and for nothing else.
        stand_in = types.ModuleType("vllm")
        stand_in.__version__ = "0"  # type: ignore[attr-defined]
        sys.modules["vllm"] = stand_in
    from terratorch.vllm.utils import InferenceRunner

    config = json.loads((path / "config.json").read_text())["pretrained_cfg"]
    runner = InferenceRunner(config)
    stored = torch.load(path / "model.pt", map_location="cpu", weights_only=True)
    runner.load_state_dict(stored["state_dict"])
    runner.eval()
    keys = list(config["input"]["data"])

    def run(inputs: list[np.ndarray]) -> np.ndarray:
        given = {key: torch.from_numpy(one) for key, one in zip(keys, inputs, strict=True)}
        with torch.inference_mode():
            return np.asarray(runner(**given).output)

    return run


def _checkpoint(path: Path, request: dict[str, Any]) -> Run:
    from terratorch_simpler.exporting.load import load

    task: Any = load(path)
    return _torch(task.model, request["names"])


def _full(path: Path, request: dict[str, Any]) -> Run:
    """The model before anything was cut, with random weights: they cost what others cost."""
    from terratorch_simpler.exporting.checkpoint import read_checkpoint, task_class
    from terratorch_simpler.exporting.load import build_bare

    saved = read_checkpoint(path)
    arguments = {**saved.arguments, "model_args": request["model_args"]}
    task: Any = build_bare(task_class(saved), arguments, str(path)).eval()
    request["weights_mb"] = sum(one.nbytes for one in task.state_dict().values()) / 1e6
    return _torch(task.model, request["names"])


def _torch(model: Any, names: list[str] | None) -> Run:
    import torch

    def run(inputs: list[np.ndarray]) -> np.ndarray:
        tensors = [torch.from_numpy(one) for one in inputs]
        with torch.inference_mode():
            if names is not None:
                output = model(dict(zip(names, tensors, strict=True)))
            else:
                output = model(*tensors)
        return np.asarray(getattr(output, "output", output))

    return run


LOADERS: dict[str, Callable[[Path, dict[str, Any]], Run]] = {
    "onnx": _onnx,
    "pt2": _pt2,
    "terratorch": _terratorch,
    "safetensors": _safetensors,
    "vllm": _vllm,
    "checkpoint": _checkpoint,
    "full": _full,
}
"""What each kind of export is loaded with."""


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
