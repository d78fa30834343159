"""Records of tiles: which were used, what was left out, and what the files were taken for."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeftOut(_Record):
    """What was left out for one reason.

    Attributes:
        reason: Why, in the plural.
        chips: Chips of scenes of which others were used, or might be.
        scenes: Names of the scenes of which nothing could be used.
    """

    reason: str
    chips: int
    scenes: list[str] = Field(default_factory=list)


class TakenFor(_Record):
    """What the files of some scenes were taken for.

    Attributes:
        scenes: How many scenes.
        bands: For each band that the backbone reads, the label or the place of what was read.
        sensor: Whose band codes the labels are, where they are codes.
        scaling: Scale and offset that the files declare, which are not applied.
    """

    scenes: int
    bands: dict[str, str]
    sensor: str | None = None
    scaling: str | None = None


class TilesRecord(_Record):
    """The tiles that a plan was made from.

    Attributes:
        source: Where they come from.
        names: What the chips are called, in the order in which they were used.
        used: How many went into the similarity.
        dropped: How many chips and scenes were left out.
        seed: Seed of the choice of tiles and tokens.
        tiles_per_group: Tiles in one group of samples.
        stopped_early: Whether the choice was settled before all tiles were used.
        scenes: How many scenes they are of, where that is known.
        left_out: What was left out, by reason.
        other_files: Files beside the bands that are none of those asked for.
        closed_folders: Folders that could not be looked into, for want of permission.
        taken_for: What the files were taken for.
        dataset_bands: What the user said that the files hold, in order.
        means: Mean of each band that the tiles were normalised with here; None if they came so.
        stds: Standard deviation of each band, likewise.
        mask: The quality layer that masked, if one did.
    """

    source: str
    names: list[str]
    used: int = Field(ge=1)
    dropped: int
    seed: int
    tiles_per_group: int
    stopped_early: bool = False
    scenes: int | None = None
    left_out: list[LeftOut] = Field(default_factory=list)
    other_files: int = 0
    closed_folders: list[str] = Field(default_factory=list)
    taken_for: list[TakenFor] = Field(default_factory=list)
    dataset_bands: list[str] | None = None
    means: list[float] | None = None
    stds: list[float] | None = None
    mask: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_known(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # A plan that says nothing of these is written back as it was.
        known = ("source", "names", "used", "dropped", "seed", "tiles_per_group", "stopped_early")
        return {name: value for name, value in serialize(self).items() if value or name in known}
