"""What an export is worth on the task's validation tiles, beside the model that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from terratorch_simpler.exporting.formats import Format
    from terratorch_simpler.exporting.source import Source


class ExportedModel(nn.Module):
    """An export in the place of a task's model.

    Args:
        to: Its format, ``onnx`` or ``pt2``.
        path: The file.
    """

    def __init__(self, to: Format, path: Path) -> None:
        super().__init__()
        self._run: Any
        if to == "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            names = [one.name for one in session.get_inputs()]

            def run(*images: Tensor) -> Tensor:
                arrays = [image.numpy() for image in images]
                return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

            self._run = run
        else:
            program = torch.export.load(path).module()
            # Not as a module of this one, whose modes it does not take part in.
            self._run = lambda *images: program(*images)

    def forward(self, images: Tensor | Mapping[str, Tensor], **_: Any) -> Any:
        """Run the export, and give what TerraTorch's models give."""
        from terratorch.models.model import ModelOutput

        given = [*images.values()] if isinstance(images, Mapping) else [images]
        return ModelOutput(output=self._run(*given), auxiliary_heads={})


def compare_accuracy(source: Source, to: Format, path: Path) -> dict[str, tuple[float, float]]:
    """Every metric of the task on its validation tiles, by the model and by its export.

    Args:
        source: What was exported, with a datamodule.
        to: The format.
        path: The file.
    """
    before = _validate(source)
    whole = source.task.model
    try:
        source.task.model = ExportedModel(to, path)
        after = _validate(source)
    finally:
        source.task.model = whole
    return {name: (value, after[name]) for name, value in before.items()}


def _validate(source: Source) -> dict[str, float]:
    from lightning.pytorch import Trainer

    from terratorch_simpler.lightning import quiet_lightning

    with quiet_lightning():
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        found = trainer.validate(source.task, datamodule=source.datamodule, verbose=False)
    return {name: float(value) for name, value in found[0].items()}
