"""How to select: what a user may set, checked. It is the source of the command line's options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from terratorch_simpler.criteria import PROBE, check_criterion
from terratorch_simpler.lightning import check_keeps_weights
from terratorch_simpler.results.probe import check_share
from terratorch_simpler.tiles import MIN_TILES, Pooling, check_sampling

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Settings:
    """How to select.

    Attributes:
        criterion: What decides: a criterion, a baseline together with ``depth``, or ``probe``: the
            labels of a task's config.
        depth: How many blocks a baseline keeps.
        share: With ``probe``, keep the smallest depth with this share of the best score; unless
            named, the smallest within one standard error of it.
        pooling: What a sample is: ``tokens`` for patch tokens, ``mean`` for the mean of a tile.
        tokens: Patch tokens drawn of each tile.
        samples: Most tiles to use; unless named, what the tiles say, or 512.
        seed: Seed of the choice of tiles and tokens; unless named, what the tiles say, or 0.
        early_stop: Stop sampling once the choice is settled: after 8, 16, 32, ... groups, if at
            least 95 % of the resamples choose one depth.
        accelerator: What to run on: auto, cpu, gpu, mps, ... (Lightning).
        devices: How many devices share the tiles, under DDP, which starts the script again for
            each (Lightning); the plan is that of one.
        num_nodes: Machines that share them, started with torchrun (Lightning).
        precision: In what to compute: ``auto`` (bf16-mixed on CUDA devices that have it, else
            32-true), 32-true, bf16-mixed or 16-mixed (Lightning).
        progress: Show a progress bar.
    """

    criterion: str = "simpler"
    depth: int | None = None
    share: float | None = None
    pooling: Pooling = "tokens"
    tokens: int = 16
    samples: int | None = None
    seed: int | None = None
    early_stop: bool = True
    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    precision: str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.depth)
        if self.share is not None:
            if self.criterion != PROBE:
                raise ValueError(
                    f"share goes with criterion '{PROBE}', not with '{self.criterion}': leave it "
                    "out"
                )
            check_share(self.share)
        check_sampling(self.pooling, self.tokens)
        check_keeps_weights(self.precision)
        if self.samples is not None and self.samples < MIN_TILES:
            raise ValueError(f"samples must be at least {MIN_TILES}, got {self.samples}")
        for what, value in (("devices", self.devices), ("num_nodes", self.num_nodes)):
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{what} must be at least 1, got {value}")


def split_options(kind: type, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options that are fields of a dataclass, and the others."""
    names = {field.name for field in fields(kind)}
    mine = {name: value for name, value in options.items() if name in names}
    return mine, {name: value for name, value in options.items() if name not in names}


def settings_from(
    settings: Settings | None, options: Mapping[str, Any]
) -> tuple[Settings, dict[str, Any]]:
    """Settings with those of the options that are fields of theirs, and the other options.

    Raises:
        ValueError: If a setting cannot be right.
    """
    mine, others = split_options(Settings, options)
    return replace(settings, **mine) if settings is not None else Settings(**mine), others


def takes_settings(function: Function) -> Function:
    """Have the signature of a function that takes settings as keywords name each of them."""
    *named, rest = inspect.signature(function).parameters.values()
    by_name = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(Settings)
    ]
    signature = inspect.signature(function).replace(parameters=[*named, *by_name, rest])
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function
