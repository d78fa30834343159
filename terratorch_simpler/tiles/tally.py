"""What became of scenes and chips in one pass: used, or left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from terratorch_simpler.results.tiles import LeftOut, TakenFor
from terratorch_simpler.tiles.chips import ChipRead, Dropped
from terratorch_simpler.tiles.scenes import Taken


@dataclass
class Tally:
    """Counts of one pass.

    Attributes:
        dropped: Chips that were dropped, and scenes that were left out, by reason.
        scenes: Chips used of each scene, by number.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    scenes: Counter[int] = field(default_factory=Counter)
    _reasons: dict[int, Counter[str]] = field(default_factory=dict)
    _names: dict[int, tuple[str, int]] = field(default_factory=dict)
    _taken: dict[int, Taken] = field(default_factory=dict)

    def add(self, chip: ChipRead) -> None:
        """Count a chip that was read."""
        if chip.taken is not None:
            self._taken[chip.scene] = chip.taken
        if not isinstance(chip.content, Dropped):
            self.scenes[chip.scene] += 1
            return
        self.dropped[chip.content.reason] += 1
        self._reasons.setdefault(chip.scene, Counter())[chip.content.reason] += 1
        self._names[chip.scene] = chip.name.partition("[")[0], chip.count

    def left_out(self) -> list[LeftOut]:
        """What was left out, by reason: scenes of which nothing could be used, and other chips."""
        chips: Counter[str] = Counter()
        names: dict[str, list[str]] = {}
        for scene, reasons in self._reasons.items():
            name, count = self._names[scene]
            if not self.scenes[scene] and reasons.total() >= count:
                reason, _ = reasons.most_common(1)[0]
                names.setdefault(reason, []).append(name)
            else:
                chips += reasons
        return [
            LeftOut(reason=reason, chips=chips[reason], scenes=sorted(names.get(reason, [])))
            for reason in sorted({*chips, *names})
        ]

    def taken(self, bands: Sequence[str]) -> list[TakenFor]:
        """What the scenes were taken for, the most frequent first."""
        counted = Counter(self._taken.values())
        return [
            TakenFor(
                scenes=count,
                bands=dict(zip(bands, taken.bands, strict=True)),
                sensor=taken.sensor,
                scaling=taken.scaling,
            )
            for taken, count in counted.most_common()
        ]
