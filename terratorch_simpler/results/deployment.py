"""Deployment: what an exported model expects and gives, as JSON in the file and beside it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from terratorch_simpler.results.blocks import check_kept_blocks
from terratorch_simpler.results.reading import read_record

SCHEMA_VERSION = 1
METADATA_KEY = "terratorch_simpler"
"""Where the record stands in the ``metadata_props`` of an ONNX file."""
Task = Literal["segmentation", "regression", "classification", "multilabel"]
OF_PIXELS: tuple[Task, ...] = ("segmentation", "regression")
"""Tasks whose output has a value at every pixel."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelInput(_Record):
    """One input of the model: the pixels of one modality.

    Its shape is [B, channels, height, width], or [B, channels, frames, height, width] where there
    are frames; float32, normalised as (pixel - mean) / std.

    Attributes:
        name: Name of the input.
        bands: Names of its bands, in order, in TerraTorch's words; None where they are not known.
        channels: Number of bands.
        frames: Number of time steps; None for a model without a time axis.
        height: Rows of pixels.
        width: Columns of pixels.
        means: Mean of each band, in the units of the pixels; None where pixels go in as they are.
        stds: Standard deviation of each band, likewise.
    """

    name: str = Field(min_length=1)
    bands: tuple[str, ...] | None
    channels: Count
    frames: Count | None
    height: Count
    width: Count
    means: tuple[Finite, ...] | None
    stds: tuple[Finite, ...] | None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.means is None) != (self.stds is None):
            raise ValueError(f"means and stds of {self.name} go together")
        for what in ("bands", "means", "stds"):
            values = getattr(self, what)
            if values is not None and len(values) != self.channels:
                raise ValueError(
                    f"{what} of {self.name} must be one a channel: {self.channels}, got "
                    f"{len(values)}"
                )
        if self.stds is not None and min(self.stds) <= 0:
            raise ValueError(f"stds of {self.name} must be above 0, got {min(self.stds)}")
        return self


class ModelOutput(_Record):
    """The output of the model.

    Attributes:
        name: Name of the output.
        classes: Names of the classes, in order; None where they have none. One channel that tells
            two classes apart may name both.
        channels: Number of classes, or of values at a pixel. Segmentation gives logits
            [B, channels, height, width], of which one channel is that of the second of two classes,
            a logit. Regression gives [B, height, width], and a task of whole tiles [B, channels].
    """

    name: str = Field(min_length=1)
    classes: tuple[str, ...] | None
    channels: Count


class ModelRecord(_Record):
    """Which model was exported.

    Attributes:
        name: Name of its backbone.
        kept_blocks: 0-based indices of the blocks that it has of the full backbone.
        full_depth: Number of blocks of the full backbone.
    """

    name: str
    kept_blocks: tuple[int, ...]
    full_depth: Count

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        check_kept_blocks(list(self.kept_blocks), self.full_depth)
        return self


class Deployment(_Record):
    """What an exported model expects and gives: all that a run of it has to know.

    Attributes:
        task: What the model does.
        inputs: Its inputs, one a modality.
        no_data: The value of pixels without data; None where only NaN and infinity are that.
        no_data_replace: What takes the place of such values before they are normalised; None where
            the model was trained without any, so that nothing is known to be right. A run reads the
            mean of the band there then, and says so.
        output: Its output.
        dynamic_size: Whether it takes inputs of any height and width; those of the inputs are then
            what it was trained with.
        model: Which model it is; None where that is not known.
        trained: Whether it was trained; False where it was exported from a config, with a decoder
            and a head of random numbers.
        made_by: Software that exported it, with its version.
    """

    schema_version: Literal[1] = 1
    task: Task
    inputs: tuple[ModelInput, ...] = Field(min_length=1)
    no_data: Finite | None
    no_data_replace: Finite | None
    output: ModelOutput
    dynamic_size: bool
    model: ModelRecord | None
    trained: bool = True
    made_by: dict[str, str]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        names = [entry.name for entry in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError(f"inputs must have names of their own, got {', '.join(names)}")
        sizes = {(entry.height, entry.width) for entry in self.inputs}
        if len(sizes) > 1:
            raise ValueError(f"inputs must have one height and width, got {sorted(sizes)}")
        classes, channels = self.output.classes, self.output.channels
        if self.task == "regression" and (classes is not None or channels != 1):
            raise ValueError("the output of regression has 1 channel and no classes")
        named = (channels, 2) if channels == 1 else (channels,)
        if classes is not None and len(classes) not in named:
            raise ValueError(
                f"classes of the output must be {' or '.join(map(str, named))} names, got "
                f"{len(classes)}"
            )
        return self

    def to_json(self) -> str:
        """The record as indented JSON."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> Deployment:
        """Read a record and check that it agrees with itself.

        Args:
            text: JSON.
            source: What it was read from, for messages.

        Raises:
            ValueError: If it is no such record, is of a newer schema or contradicts itself.
        """
        return read_record(
            cls,
            text,
            SCHEMA_VERSION,
            f"{source} has deployment schema",
            f"{source} does not say what the model expects",
            f"{source} does not say rightly what the model expects",
        )
