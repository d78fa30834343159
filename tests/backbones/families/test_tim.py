"""TerraMind that thinks in modalities: what it generates stays, the last pass is cut."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from tests.backbones.families.tester import BackboneTester

GENERATES = "it draws tokens from a distribution on the way, which the full one cannot trace either"


@pytest.mark.long
class TestTerraMindTim(BackboneTester):
    name = "terramind_v1_tiny_tim"
    arguments: ClassVar[dict[str, Any]] = {"modalities": ["S2L2A"], "img_size": 224}
    shape: ClassVar[Any] = {"S2L2A": (12, 224, 224)}
    family = "TerraMind TiM"
    normed = 1
    once = True
    spared: ClassVar[dict[str, str]] = {
        "compile": GENERATES,
        "export": GENERATES,
    }

    def test_what_generates_stays_whole(self) -> None:
        pruned = self.pruned()
        assert len(pruned.sampler.model.encoder) == 12
        assert len(pruned.encoder) == 3

    def test_the_given_dict_stays_as_it_is(self) -> None:
        """TerraTorch's own writes what it generates into the batch."""
        image = self.image(batch=1)
        self.pruned()(image)
        assert list(image) == ["S2L2A"]
