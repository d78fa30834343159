"""One line of time with marks on it: what lies between two of them belongs to the first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise
from time import perf_counter
from typing import Any, Generic, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
Stamp = TypeVar("Stamp")


class Timeline(Generic[Key, Stamp]):
    """Marks in the order in which they were set.

    Args:
        stamp: Reads the clock, or anything else that grows.
    """

    def __init__(self, stamp: Callable[[], Stamp]) -> None:
        self._stamp = stamp
        self._marks: list[tuple[Key | None, Stamp]] = []

    @property
    def current(self) -> Key | None:
        """What was marked last."""
        return self._marks[-1][0] if self._marks else None

    def mark(self, key: Key) -> None:
        """From here on it is this; without effect where it was already."""
        if not self._marks or self._marks[-1][0] != key:
            self._marks.append((key, self._stamp()))

    def spent(self, between: Callable[[Stamp, Stamp], float]) -> dict[Key, float]:
        """End it, and give what was spent in all of each.

        Args:
            between: What lies between two stamps.
        """
        self._marks.append((None, self._stamp()))
        found: dict[Key, float] = {}
        for (key, start), (_, end) in pairwise(self._marks):
            if key is not None:
                found[key] = found.get(key, 0.0) + between(start, end)
        return found


class Clock:
    """Reads the time of a device without holding it up.

    On CUDA a stamp is an event, which is read when all is done; on other accelerators than that
    there is a wait at each stamp.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stamp(self) -> Any:
        """The time now."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            return event
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return perf_counter()

    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between two stamps."""
        if self.device.type == "cuda":
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3
        return float(end - start)
