"""PruningPlan: which blocks to keep and why, as validated JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from terratorch_simpler.baselines import BASELINES, Matrix
from terratorch_simpler.criteria import (
    CRITERIA,
    PROBE,
    SETTLED,
    SIMILARITY,
    best_depth,
    unknown_criterion,
)
from terratorch_simpler.files import write_files
from terratorch_simpler.results.blocks import check_kept_blocks, keep_spec
from terratorch_simpler.results.finetuned import FineTuned
from terratorch_simpler.results.hub import PLAN, download, upload
from terratorch_simpler.results.made import Made
from terratorch_simpler.results.probe import LATER, Probe
from terratorch_simpler.results.reading import read_record
from terratorch_simpler.results.savings import Savings
from terratorch_simpler.results.shown import Shown, looks
from terratorch_simpler.results.tiles import TilesRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1
SOURCE = "simpler"
"""Prefix of pruned backbones in TerraTorch's registry."""
BY_STRUCTURE = "ViT by structure"
"""Family of the backbones whose list of blocks a rule finds, or the user names."""
Share = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_OPTIONAL = ("made", "probe", "savings", "warnings", "statistics", "unread", "finetuned")
"""What plans need not say."""


class BackboneRecord(_Record):
    """The full backbone that a plan was made for.

    Attributes:
        name: Name in TerraTorch's backbone registry, or the class of a module given directly.
        arguments: What the registry built it with.
        family: Name of its family.
        blocks: Dotted name of the list of blocks.
        depth: Number of blocks.
        width: Features of a token.
        parameters: Parameters of the full backbone.
        kept_parameters: Parameters after pruning.
        pretrained: Whether its weights were pre-trained; None if unknown.
        fingerprint: SHA-256 over the names and shapes of its blocks' weights and sums of their
            bits: it tells them from others, but is not the SHA-256 of the weights themselves.
    """

    name: str
    arguments: dict[str, Any]
    family: str
    blocks: str
    depth: int = Field(ge=1)
    width: int = Field(ge=1)
    parameters: int = Field(ge=1)
    kept_parameters: int = Field(ge=1)
    pretrained: bool | None
    fingerprint: str


class PruningPlan(Shown, _Record):
    """Which blocks of a backbone to keep, and the evidence for it.

    Attributes:
        depth: Number of blocks kept.
        total_depth: Number of blocks of the full backbone.
        kept_blocks: 0-based indices of the kept blocks.
        criterion: What decided.
        pooling: ``tokens`` or ``mean``.
        tokens: Patch tokens drawn from each tile (1 for ``mean``).
        confidence: Share of bootstrap resamples that choose this depth; None where there is nothing
            to resample (fewer than six groups, or a depth named by the user).
        depth_shares: That share for every depth that any resample chose.
        depth_interval: Depths between which 95 % of the resamples lie; None likewise.
        tiles_to_settle: How many tiles in all are likely to settle the choice; None where it is
            settled, or where no number worth waiting for is.
        output_scale: Spread of the samples after the last kept block over that after the full
            depth's, where the backbone is known to give its blocks' tokens out as they are and the
            first blocks are kept; else None.
        stabilizes: False where no tail is flatter than its head, so that the criterion's premise
            fails; None for a criterion that has no premise.
        scores: Score of every depth under ``criterion``.
        others: Blocks that each other criterion, or baseline at this depth, would have kept.
        backbone: What the plan was made for.
        tiles: What it was made from.
        warnings: What was warned of when it was made; None in plans that do not say.
        versions: Software that made it.
        made: When and by what command, where it was written by one (or by ``select_task``).
        probe: What each depth offers on labelled tiles, where that was measured as well.
        savings: What the full and the pruned backbone cost, where that was measured.
        statistics: Statistics of every layer by name, [total_depth + 1] each; None in plans that do
            not say.
        unread: Criteria that could not be read, and why.
        finetuned: What came of fine-tuning, the full model first, where that was done as well.
    """

    schema_version: Literal[1] = 1
    depth: int
    total_depth: int
    kept_blocks: list[int]
    criterion: str
    pooling: Literal["tokens", "mean"]
    tokens: int
    confidence: Share | None
    depth_shares: dict[int, Share]
    depth_interval: tuple[int, int] | None = None
    tiles_to_settle: int | None = None
    output_scale: float | None = Field(default=None, gt=0)
    stabilizes: bool | None
    scores: dict[int, float]
    others: dict[str, list[int]]
    backbone: BackboneRecord
    tiles: TilesRecord
    warnings: list[str] | None = None
    versions: dict[str, str]
    made: Made | None = None
    probe: Probe | None = None
    savings: Savings | None = None
    statistics: dict[str, list[float]] | None = None
    unread: dict[str, str] | None = None
    finetuned: list[FineTuned] | None = Field(default=None, min_length=1)
    similarity_rows: list[list[float]] = Field(alias="similarity")

    @property
    def similarity(self) -> Matrix:
        """CKA between all layers: float64, [total_depth + 1, total_depth + 1]."""
        return np.array(self.similarity_rows)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        check_kept_blocks(self.kept_blocks, self.total_depth)
        if self.depth != len(self.kept_blocks):
            raise ValueError(f"depth is {self.depth} but kept_blocks has {len(self.kept_blocks)}")
        if self.backbone.depth != self.total_depth:
            raise ValueError(
                f"total_depth is {self.total_depth} but the backbone has {self.backbone.depth}"
            )
        layers = self.total_depth + 1
        if self.probe is not None and len(self.probe.scores) != layers:
            raise ValueError(
                f"the probe has {len(self.probe.scores)} layers, the backbone {layers}"
            )
        square = {len(row) for row in self.similarity_rows} == {layers}
        if len(self.similarity_rows) != layers or not square:
            raise ValueError(f"similarity must be {layers} x {layers} finite numbers")
        matrix = self.similarity
        if not np.isfinite(matrix).all():
            raise ValueError(f"similarity must be {layers} x {layers} finite numbers")
        if not np.array_equal(matrix, matrix.T):
            raise ValueError("similarity is not symmetric")
        statistics = self.statistics or {}
        if any(len(curve) != layers for curve in statistics.values()):
            raise ValueError(f"statistics must be of {layers} layers")
        if self.criterion in CRITERIA:
            reads = CRITERIA[self.criterion].reads
            if reads != SIMILARITY and reads not in statistics:
                raise ValueError(f"criterion '{self.criterion}' reads {reads}, which is missing")
            measured = matrix if reads == SIMILARITY else np.array(statistics[reads])
            scores = CRITERIA[self.criterion](measured)
            if scores.keys() != self.scores.keys() or any(
                # Written so that a score of NaN is refused as well.
                not abs(scores[depth] - self.scores[depth]) <= 1e-6
                for depth in scores
            ):
                raise ValueError(f"scores do not follow from {reads}")
            if self.kept_blocks != list(range(best_depth(scores))):
                raise ValueError(
                    f"criterion '{self.criterion}' keeps the first {best_depth(scores)} blocks, "
                    f"kept_blocks says {self.kept_blocks}"
                )
        elif self.criterion == PROBE:
            self._check_follows_from_labels()
        elif self.criterion not in BASELINES:
            raise ValueError(unknown_criterion(self.criterion))
        return self

    def _check_follows_from_labels(self) -> None:
        """Refuse a decision of labels that the probe's record does not say."""
        probe = self.probe
        if probe is None:
            raise ValueError(f"criterion '{PROBE}' needs the record of the probe, which is missing")
        if self.scores != probe.of_depths:
            raise ValueError("scores are not those of the probe")
        if probe.said is None or self.kept_blocks != list(range(probe.said)):
            raise ValueError(
                f"the labels keep the first {probe.said} blocks, kept_blocks says "
                f"{self.kept_blocks}"
            )
        sure = (self.depth_shares, self.depth_interval, self.confidence)
        shares = probe.depth_shares or {}
        if sure != (
            shares,
            probe.depth_interval,
            shares.get(self.depth, 0.0) if shares else None,
        ):
            raise ValueError("depth_shares, depth_interval and confidence are not the probe's")

    @model_serializer(mode="wrap")
    def _without_what_was_not_measured(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # Versions that know no probe or no savings read a plan without them.
        return {
            name: value
            for name, value in serialize(self).items()
            if value is not None or name not in _OPTIONAL
        }

    @field_serializer("probe", mode="wrap")
    def _probe_as_it_was(
        self, probe: Probe | None, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any] | None:
        # The first records are written back as they were.
        written = serialize(probe)
        return written and {
            name: value
            for name, value in written.items()
            if name not in LATER or value != LATER[name]
        }

    @field_serializer("savings", mode="wrap")
    def _savings_as_they_were(
        self, savings: Savings | None, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any] | None:
        # Likewise those that do not say the time of each pass.
        written = serialize(savings)
        return written and {
            which: {name: value for name, value in cost.items() if name != "times" or value}
            for which, cost in written.items()
        }

    def __repr__(self) -> str:
        which = "the first " if isinstance(self.spec, int) else ""
        sure = "" if self.confidence is None else f" ({self.confidence:.0%} of resamples)"
        count = len(self.warnings or [])
        # Older plans do not say.
        warned = "" if self.warnings is None else f"{count} warning{'s' * (count != 1)}; "
        return (
            f"PruningPlan: keep {which}{self.depth} of {self.total_depth} blocks of "
            f"{self.backbone.name}, by {self.criterion} on {self.tiles.used} tiles{sure}\n"
            f"  {warned}see .summary(), .plot() and .report(path)"
        )

    def plot(self, what: Literal["scores", "similarity", "probe"] = "scores") -> Figure:
        """A figure of the plan; a notebook shows it, ``savefig`` writes it.

        Args:
            what: The score of every depth, the similarity of all layers, or what labels say of
                every depth, where that was measured.

        Raises:
            ValueError: If there is no such figure.
        """
        return looks().figure(self, what)

    def report(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the report as one HTML page, without pictures of tiles.

        Args:
            path: The page, or a folder for ``report.html``.
            overwrite: Replace a file that is there.

        Raises:
            FileExistsError: If the file exists and ``overwrite`` is False.
            OSError: If it cannot be written.
        """
        looks().write_page(self, Path(path), overwrite)

    @property
    def settled(self) -> bool | None:
        """Whether the tiles settle the depth: at least 95 % of resamples; None if unknown."""
        return None if self.confidence is None else self.confidence >= SETTLED

    @property
    def spec(self) -> int | list[int]:
        """The shortest ``keep_blocks`` that says the same: a number, or a list of indices."""
        return keep_spec(self.kept_blocks)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the plan as JSON, whole or not at all.

        Raises:
            FileExistsError: If the file exists and ``overwrite`` is False.
        """
        write_files({Path(path): self.to_json()}, overwrite)

    def to_json(self) -> str:
        """The plan as indented JSON, a row of numbers on a line of its own."""
        text = self.model_dump_json(indent=1, by_alias=True)
        # JSON strings hold no line break, so that this meets lists of numbers only.
        rows = re.sub(
            r"\[\n[-\d.,eE\s]+\]", lambda row: f"[{' '.join(row[0][1:-1].split())}]", text
        )
        return rows + "\n"

    @classmethod
    def load(cls, path: str | Path) -> PruningPlan:
        """Read a plan and check that it agrees with itself.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a plan, is of a newer schema or contradicts itself.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no plan at {path}: make one with 'terratorch-simpler select', or name the depth "
                "with keep_blocks"
            )
        return cls.from_json(path.read_bytes(), str(path))

    @classmethod
    def from_hub(
        cls, repository: str, *, revision: str | None = None, filename: str = PLAN
    ) -> PruningPlan:
        """Read a plan from a repository of the Hugging Face hub, or from its cache.

        Args:
            repository: ``user/name``.
            revision: Branch, tag or commit; None for the newest.
            filename: Name of the plan there.

        Raises:
            FileNotFoundError: If there is no such repository, revision or file.
            ValueError: If the hub cannot be reached, or as :meth:`load`.
        """
        return cls.from_json(
            download(repository, revision, filename), f"{filename} of {repository}"
        )

    def push_to_hub(
        self,
        repository: str,
        *,
        filename: str = PLAN,
        private: bool = False,
        overwrite: bool = False,
    ) -> str:
        """Write the plan into a repository of the Hugging Face hub.

        Args:
            repository: ``user/name``; made if there is none.
            filename: Name of the plan there.
            private: Make the repository a private one.
            overwrite: Replace a plan that is there; the hub keeps the earlier one in its history.

        Returns:
            Address of the commit.

        Raises:
            FileExistsError: If it is there and ``overwrite`` is False.
            ValueError: If the hub refuses, or cannot be reached.
        """
        message = f"Plan: {self.depth} of {self.total_depth} blocks of {self.backbone.name}"
        return upload(self.to_json(), repository, filename, private, overwrite, message)

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> PruningPlan:
        """As :meth:`load`, from JSON text; ``source`` names it in messages."""
        return read_record(
            cls,
            text,
            SCHEMA_VERSION,
            f"{source} has plan schema",
            f"{source} is not a plan",
            f"{source} is not a valid plan",
        )

    def check_backbone(self, name: str | None, depth: int, fingerprint: str | None) -> None:
        """Refuse a backbone that the plan was not made for.

        Args:
            name: Registry name, or None for a module without one.
            depth: Its number of blocks.
            fingerprint: Fingerprint of its weights, or None where they are not loaded yet.

        Raises:
            ValueError: With the difference.
        """
        for what, planned, given in (
            ("backbone", self.backbone.name, name),
            ("depth", self.total_depth, depth),
            ("weights", self.backbone.fingerprint[:12], fingerprint and fingerprint[:12]),
        ):
            if given is not None and given != planned:
                raise ValueError(
                    f"the plan was made for another {what}: {planned} in the plan, {given} here; "
                    "run 'terratorch-simpler select' on this backbone, or name the depth with "
                    "keep_blocks"
                )
