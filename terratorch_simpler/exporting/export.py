"""``simpler.export``: a model in another format, proven before it gets its name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terratorch_simpler.exporting.formats import FOLDERS, Format, Quantized
from terratorch_simpler.exporting.options import check_options, data_config
from terratorch_simpler.exporting.untrained import opened
from terratorch_simpler.files import check_free, staged
from terratorch_simpler.messages import Reporter

if TYPE_CHECKING:
    from terratorch_simpler.exporting.measure import Measured
    from terratorch_simpler.exporting.source import Source

COLUMNS = ("model", "MB on disk", "ms a tile", "peak MB", "differs by")


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
        trained: Whether the model was trained; False where a config was exported.
    """

    format: Format
    files: tuple[Path, ...]
    tile: str
    tolerance: str
    measured: tuple[Measured, ...]
    accuracy: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    trained: bool = True


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
    """Write a model in another format, and prove it in a fresh process.

    The export is loaded by a process that does not have what it must do without, and its output
    for one tile is held against the checkpoint's. If that fails, nothing is written.

    Args:
        checkpoint: What a Lightning trainer saved of a TerraTorch task, pruned or full; or a config
            (``.yaml``), for the model with which ``terratorch fit`` would begin: the backbone's
            weights, and an untrained decoder and head.
        to: ``terratorch`` (a config and a checkpoint for plain TerraTorch), ``safetensors`` (a
            folder for a model hub), ``onnx``, ``pt2`` (torch.export) or ``vllm`` (a folder for
            TerraTorch's plug-in of vLLM).
        output: File of ``onnx`` and ``pt2``, folder of the others.
        config: The config of the checkpoint's task: its data gives the tile, and is written along.
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
        OSError: If it cannot be written (a full disk, say).
    """
    path, reporter = Path(output), reporter or Reporter()
    data = data_config(checkpoint, config, reporter)
    check_options(to, path, quantize, opset, dynamic_size, data is not None, reporter)
    named = reporter.option("overwrite", True)
    check_free([path, *([path.with_suffix(".json")] if to == "onnx" else [])], overwrite, named)
    from terratorch_simpler.exporting.measure import (
        compare,
        prove,
        prove_other_size,
        reference_output,
    )
    from terratorch_simpler.exporting.source import read_source

    with ExitStack() as stack:
        saved = stack.enter_context(opened(Path(checkpoint), reporter))
        reporter.say("Building the model ...")
        source = read_source(saved, data, merge, size)
        folder = stack.enter_context(staged(path, overwrite, named))
        reporter.say(f"Exporting to {to} ...")
        staged_path = folder / path.name
        write_format(source, to, staged_path, quantize, opset, dynamic_size)
        reporter.say("Loading it in a fresh process ...")
        reference = reference_output(source)
        measured, tolerance = prove(source, to, staged_path, reference, quantize)
        if dynamic_size:
            prove_other_size(source, to, staged_path, quantize, reporter)
        accuracy: Mapping[str, tuple[float, float]] = {}
        if quantize is not None:
            from terratorch_simpler.exporting.accuracy import compare_accuracy

            reporter.say("Validating before and after ...")
            accuracy = compare_accuracy(source, to, staged_path)
        reporter.say(f"Running the full model and the {saved.kind}, to compare ...")
        rows = (*compare(source), measured)
        if to == "safetensors":
            from terratorch_simpler.exporting.formats.safetensors import add_checked

            add_checked(source, staged_path, [one.row for one in rows], COLUMNS)
        files = tuple(path.parent / one.name for one in sorted(folder.iterdir()))
    return Export(to, files, source.tile, tolerance, rows, accuracy, saved.trained)


def write_format(
    source: Source,
    to: Format,
    path: Path,
    quantize: Quantized | None,
    opset: int | None,
    dynamic_size: bool,
) -> None:
    """Write the format, a folder or a file.

    Raises:
        ValueError: If it cannot be exported, with the reason.
        OSError: If it cannot be written (a full disk, say).
    """
    from importlib import import_module

    module: Any = import_module(f"terratorch_simpler.exporting.formats.{to}")
    try:
        if to in FOLDERS:
            path.mkdir()
            module.write(source, path)
        elif to == "onnx":
            module.write(source, path, opset, dynamic_size, quantize)
        else:
            module.write(source, path, quantize)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not be written ({error.strerror or error}), and nothing is left of it: make "
            "room, or choose another place",
            path.name,
        ) from error
