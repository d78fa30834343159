"""The source behind ``simpler_<backbone>`` in TerraTorch's backbone registry."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.backbones.patches import PatchEmbedding
    from terratorch_simpler.backbones.pruned import PrunedBackbone
    from terratorch_simpler.pruning import Outputs
    from terratorch_simpler.results.plan import PruningPlan

logger = logging.getLogger(__name__)

TIMEOUT = 3600.0
"""Seconds for which the other processes wait for the first one's plan."""


class SimplerRegistry(Set[str]):
    """Backbones of every other source of the registry, pruned.

    ``simpler_<name>`` takes the arguments of ``<name>`` and says how deep in one of three ways:
    ``keep_blocks``, ``plan`` or ``calibration``.
    """

    def build(
        self,
        name: str,
        *,
        keep_blocks: int | list[int] | str | None = None,
        plan: str | Path | None = None,
        calibration: dict[str, Any] | str | None = None,
        outputs: Outputs = "full_depth",
        blocks: str | None = None,
        patch_embedding: PatchEmbedding = "auto",
        **arguments: Any,
    ) -> PrunedBackbone:
        """Build a backbone and prune it.

        Args:
            name: Name of the full backbone in TerraTorch's registry.
            keep_blocks: Number of first blocks to keep, or a sorted list of 0-based indices. Like
                ``calibration`` it can be text, as it comes from TerraTorch's command line.
            plan: Path of a saved plan, from the working directory or from the folder of a config
                that the command line names. With ``keep_blocks`` also given they must agree; if the
                file is gone, ``keep_blocks`` decides.
            calibration: Select now: ``{tiles: FOLDER, ...}`` with the arguments of
                :class:`~terratorch_simpler.tiles.geotiff.GeoTiffTiles` and
                :func:`~terratorch_simpler.selection.select.select`. With ``plan``, select once,
                save there and reuse. On several devices the first process selects and the others
                wait for that file, ``timeout`` seconds at most (3600). Ignored where
                ``keep_blocks`` is given.
            outputs: ``full_depth`` or ``kept``.
            blocks: Dotted name of the full backbone's list of blocks, where no rule finds the one
                that is meant.
            patch_embedding: ``auto``, ``conv`` or ``matmul``: whether the convolution that cuts
                images into patches runs as one matrix product, with the same weights. ``auto``
                takes the product where the convolution is known to be slow: in 16 bits on the CPU,
                and with frames on CUDA from torch 2.9 on.
            **arguments: Arguments of the full backbone's builder.

        Raises:
            ValueError: If no depth is given, the ways contradict each other, or as
                :func:`~terratorch_simpler.pruning.prune`.
            FileNotFoundError: If the plan is missing and nothing else says how deep.
        """
        # Registry.build of TerraTorch hides any KeyError; nothing below lets one out.
        from terratorch_simpler.backbones.backbone import load_backbone
        from terratorch_simpler.backbones.build import canonical_name, check_name
        from terratorch_simpler.backbones.patches import check_choice
        from terratorch_simpler.pruning import prune_backbone
        from terratorch_simpler.results.blocks import check_kept_blocks

        name = canonical_name(name)
        keep = _value(keep_blocks)
        depth = Depth(keep, _found(plan) if plan is not None else None, _value(calibration))
        try:
            check_name(name)
            check_choice(patch_embedding)
            depth.check_given(name)
        except ValueError as error:
            # Names without a prefix are tried in every source: let TerraTorch go on to the next.
            raise _unbuildable()(str(error)) from None
        full = load_backbone(name, blocks=blocks, **arguments)
        chosen = depth.resolve(full)
        kept = check_kept_blocks(keep, full.depth) if chosen is None else chosen.kept_blocks
        pruned = prune_backbone(full, kept, outputs, chosen, patch_embedding)
        full.release()
        return pruned

    def __iter__(self) -> Iterator[str]:
        """Names that can be cut as far as names tell; the command ``backbones`` knows all."""
        from terratorch_simpler.backbones.build import full_sources
        from terratorch_simpler.backbones.families import family_of_name

        for prefix, source in full_sources().items():
            for name in source:
                family = family_of_name(prefix, name)
                if family is not None and family.path is not None:
                    yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Any name of the registry: building one that cannot be cut says why."""
        from terratorch_simpler.backbones.build import find_source

        return isinstance(name, str) and find_source(name) is not None

    def __getitem__(self, name: str) -> Any:
        return partial(self.build, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _value(given: Any) -> Any:
    """What a text of YAML says, as jsonargparse hands on values of ``model_args`` unread."""
    import yaml

    try:
        return yaml.safe_load(given) if isinstance(given, str) else given
    except yaml.YAMLError:
        return given


def _found(plan: str | Path) -> Path:
    """Where a plan is: as its path says, or else beside a config that the command line names.

    What builds a model is not told which config asks for it.
    """
    path = Path(plan)
    beside = [] if path.is_absolute() else [folder / path for folder in _config_folders()]
    return next((one for one in (path, *beside) if one.is_file()), path)


def _config_folders() -> Iterator[Path]:
    """Folders of the configs that the command line names."""
    words = iter(sys.argv[1:])
    for word in words:
        option, equals, value = word.partition("=")
        if option in ("-c", "--config"):
            named = value if equals else next(words, None)
            if named:
                yield Path(named).parent


@dataclass(frozen=True)
class Depth:
    """The three ways in which a config says how deep a backbone is to be."""

    keep_blocks: int | list[int] | None
    plan: Path | None
    calibration: dict[str, Any] | None

    def check_given(self, name: str) -> None:
        """Refuse a config that says nothing, before anything is built."""
        if self.keep_blocks is None and self.plan is None and self.calibration is None:
            raise ValueError(
                f"simpler_{name} does not say how deep: give backbone_keep_blocks (a number or a "
                "list), backbone_plan (a file of 'terratorch-simpler select') or "
                "backbone_calibration ({tiles: FOLDER})"
            )
        if self.calibration is not None and not isinstance(self.calibration, dict):
            raise ValueError(
                f"calibration of simpler_{name} is {self.calibration!r}: give {{tiles: FOLDER}}"
            )
        if self.plan is not None and not self.plan.is_file():
            if self.keep_blocks is None and self.calibration is None:
                raise FileNotFoundError(
                    f"no plan at {self.plan} (backbone_plan): make it with 'terratorch-simpler "
                    "select', or give backbone_keep_blocks or backbone_calibration as well"
                )
            if self.keep_blocks is not None:
                logger.warning("no plan at %s: keep_blocks=%s decides", self.plan, self.keep_blocks)

    def resolve(self, full: Backbone) -> PruningPlan | None:
        """The plan that decides, or None where ``keep_blocks`` stands alone."""
        from terratorch_simpler.lightning import rank
        from terratorch_simpler.results.blocks import check_kept_blocks
        from terratorch_simpler.results.plan import PruningPlan
        from terratorch_simpler.selection.select import calibrate

        if self.plan is not None and self.plan.is_file():
            saved = PruningPlan.load(self.plan)
            full.check_plan(saved)
            if self.keep_blocks is not None:
                kept = check_kept_blocks(self.keep_blocks, full.depth)
                if kept != saved.kept_blocks:
                    raise ValueError(
                        f"keep_blocks says {self.keep_blocks}, the plan {self.plan} says "
                        f"{saved.spec}: give one of them, or make them agree"
                    )
            return saved
        if self.keep_blocks is not None or self.calibration is None:
            return None
        calibration = dict(self.calibration)
        timeout = calibration.pop("timeout", TIMEOUT)
        if rank() != 0:
            self._wait_for_plan(timeout)
            return self.resolve(full)
        made = calibrate(full, calibration)
        if self.plan is not None:
            try:
                made.save(self.plan)
            except FileExistsError:
                # The first process of another machine was faster; all go by its plan.
                return self.resolve(full)
        return made

    def _wait_for_plan(self, seconds: float) -> None:
        """Wait until the first of several processes has selected and saved its plan."""
        if self.plan is None:
            raise ValueError(
                "calibration on several devices needs backbone_plan as well: the file in which "
                "the first process hands its plan to the others"
            )
        end = time.monotonic() + seconds
        while not self.plan.is_file():
            if time.monotonic() > end:
                raise ValueError(
                    f"no plan at {self.plan} after {seconds:.0f} s: the first process selects and "
                    "saves it there. See whether it failed and whether every process reaches this "
                    "path, or give calibration a longer timeout (seconds)"
                )
            time.sleep(0.2)


@cache
def _unbuildable() -> type[ValueError]:
    """A ValueError that TerraTorch's registry takes for "not in this source"."""
    from terratorch.utils import InvalidModelError

    class UnbuildableError(InvalidModelError, ValueError):
        def __init__(self, message: str) -> None:
            super().__init__(message)  # type: ignore[no-untyped-call]

        def __str__(self) -> str:
            return str(self.args[0])

    return UnbuildableError


def register() -> None:
    """Add the source to TerraTorch's registry; a second call changes nothing."""
    from terratorch.registry import BACKBONE_REGISTRY

    from terratorch_simpler.results.plan import SOURCE

    if SOURCE not in BACKBONE_REGISTRY.keys():  # noqa: SIM118 - `in` looks for names
        BACKBONE_REGISTRY.register_source(SOURCE, SimplerRegistry())


def register_when_imported() -> None:
    """Register now if TerraTorch is loaded, else the moment it is.

    Importing TerraTorch takes tens of seconds, so that importing this package must not.
    """
    from wrapt import when_imported

    if "terratorch.registry" in sys.modules and hasattr(
        sys.modules["terratorch.registry"], "BACKBONE_REGISTRY"
    ):
        register()
    else:
        when_imported("terratorch.registry")(lambda _module: register())
