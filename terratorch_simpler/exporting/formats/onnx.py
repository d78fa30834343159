"""ONNX: one file that ONNX Runtime loads, in Python and in other languages."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from terratorch_simpler.exporting.formats.pt2 import two_tiles
from terratorch_simpler.exporting.source import Forward
from terratorch_simpler.messages import one_line
from terratorch_simpler.results.deployment import METADATA_KEY

if TYPE_CHECKING:
    from terratorch_simpler.exporting.formats import Quantized
    from terratorch_simpler.exporting.source import Source

OPSET = 18
"""The oldest that torch's exporter writes, which most runtimes read."""
LARGEST = 1_900_000_000
"""Bytes of weights that fit into one file of protobuf; more go into a file beside it."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Refuse to go on without the libraries of ONNX.

    Raises:
        ValueError: With those that are missing.
    """
    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing: pip install {' '.join(missing)}")


def write(
    source: Source,
    path: Path,
    opset: int | None = None,
    dynamic_size: bool = False,
    quantize: Quantized | None = None,
) -> None:
    """Write the model as ONNX, for batches of any size.

    Args:
        source: What is exported.
        path: The file.
        opset: Version of ONNX's operators; None for :data:`OPSET`.
        dynamic_size: Let it take images of any height and width, where it can.
        quantize: ``int8`` stores and multiplies the matrices in 8 bits.

    Raises:
        ValueError: If it cannot be exported, with the reason.
    """
    opset = OPSET if opset is None else opset
    if opset < OPSET:
        raise ValueError(f"opset must be at least {OPSET}, got {opset}: torch writes no older one")
    names = [entry.name for entry in source.deployment.inputs]
    forward = Forward(source.model, source.names).eval()
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch")}
    if dynamic_size:
        dynamic |= {-2: torch.export.Dim.DYNAMIC, -1: torch.export.Dim.DYNAMIC}
    shapes = tuple(
        {axis % tensor.ndim: dim for axis, dim in dynamic.items()} for tensor in source.inputs
    )
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                forward,
                tuple(two_tiles(source)),
                dynamo=True,
                dynamic_shapes={"images": shapes},
                input_names=names,
                output_names=[source.deployment.output.name],
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:
        # It raises whatever the model's code does when it is traced.
        said = one_line(error.__cause__ or error, most=300)
        way_out = ": leave dynamic_size out" if dynamic_size else ""
        raise ValueError(f"torch cannot export it to ONNX ({said}){way_out}") from error
    record = source.deployment.model_copy(update={"dynamic_size": dynamic_size}).to_json()
    program.model.metadata_props[METADATA_KEY] = record
    weights = sum(value.nbytes for value in source.model.state_dict().values())
    program.save(path, external_data=weights > LARGEST)
    if quantize == "int8":
        _quantize(path)
    path.with_suffix(".json").write_text(record)


def _quantize(path: Path) -> None:
    """Make the matrices of a file 8-bit integers, in place."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name(f"whole-{path.name}")
    path.rename(whole)
    with _quiet():
        quantize_dynamic(
            whole, path, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
        )
    kept = {entry.key for entry in onnx.load(path, load_external_data=False).metadata_props}
    if METADATA_KEY not in kept:
        model = onnx.load(path)
        onnx.helper.set_model_props(
            model,
            {e.key: e.value for e in onnx.load(whole, load_external_data=False).metadata_props},
        )
        onnx.save(model, path)
    whole.unlink()
    # Weights that did not fit into the file; those of 8 bits do.
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter and the quantiser say of their own steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", None)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
