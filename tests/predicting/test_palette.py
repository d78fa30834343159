from __future__ import annotations

from terratorch_simpler.predicting.palette import palette


def test_thirty_two_classes_have_colours_of_their_own() -> None:
    colours = palette(32)
    assert list(colours) == list(range(32))
    assert len(set(colours.values())) == 32
    assert all(0 <= part <= 255 for colour in colours.values() for part in colour)


def test_more_classes_repeat_them() -> None:
    assert palette(40)[35] == palette(40)[3]
