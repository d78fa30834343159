"""torch.export: one file that torch alone loads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from terratorch_simpler.exporting.formats.whole import write_whole
from terratorch_simpler.exporting.source import Forward
from terratorch_simpler.messages import one_line

if TYPE_CHECKING:
    from terratorch_simpler.exporting.formats import Quantized
    from terratorch_simpler.exporting.source import Source

RECORD = "deployment.json"
"""Name under which the file holds what the model expects."""


def write(source: Source, path: Path, quantize: Quantized | None = None) -> None:
    """Write the model as a program of torch.export, for batches of any size.

    Args:
        source: What is exported.
        path: The file.
        quantize: ``bf16`` computes in 16 bits and takes and gives 32; None leaves it as it is.

    Raises:
        ValueError: If torch cannot export it, with the reason.
    """
    dtype, model = torch.float32, source.model
    if quantize == "bf16":
        # A copy: bits that are gone do not come back.
        dtype, model = torch.bfloat16, copy.deepcopy(model).bfloat16()
    forward = Forward(model, source.names, dtype).eval()
    try:
        program = torch.export.export(
            forward, tuple(two_tiles(source)), dynamic_shapes=any_batch(source)
        )
    except Exception as error:
        # It raises whatever the model's code does when it is traced.
        raise ValueError(f"torch.export cannot export it: {one_line(error, most=300)}") from error
    record = {RECORD: source.deployment.to_json()}
    write_whole(path, lambda file: torch.export.save(program, file, extra_files=record))


def two_tiles(source: Source) -> list[Tensor]:
    """The tile twice: of one, torch would conclude that there is always one."""
    return [torch.cat([tensor, tensor]) for tensor in source.inputs]


def any_batch(source: Source) -> dict[str, tuple[dict[int, torch.export.Dim], ...]]:
    """For torch.export, that the first dimension of every input can have any length."""
    batch = torch.export.Dim("batch")
    return {"images": tuple({0: batch} for _ in source.inputs)}
