"""Answers of fine-tuned models, kept beside a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from terratorch_simpler.results.answers import Answers

LABELS = np.array([[[0, 1], [2, 0]]])
FULL = Answers(
    "segmentation",
    np.zeros((1, 2, 2, 3), np.uint8),
    LABELS,
    LABELS != 2,
    {"full": LABELS},
    ("water", "land", "ice"),
)


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.npz"
    path.write_bytes(FULL.to_npz())
    found = Answers.read(path)
    assert (found.kind, found.classes, list(found.models)) == (FULL.kind, FULL.classes, ["full"])
    for name in ("images", "labels", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(FULL, name))
    np.testing.assert_array_equal(found.models["full"], LABELS)
    assert found.to_npz() == FULL.to_npz()


def test_those_of_several_models_stand_together() -> None:
    pruned = replace(FULL, models={"simpler": 0 * LABELS})
    both = Answers.together([FULL, pruned])
    assert list(both.models) == ["full", "simpler"]
    with pytest.raises(ValueError, match="other tiles"):
        Answers.together([FULL, replace(pruned, labels=LABELS + 1)])


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"another shape are: full"):
        replace(FULL, models={"full": LABELS[:, :1]})
    with pytest.raises(ValueError, match="no kind of answers: boxes"):
        replace(FULL, kind="boxes")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"mine", b"", b"PK\x05\x06" + bytes(18)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"answers\.npz holds no answers .* remove it"):
        Answers.read(path)
    with pytest.raises(FileNotFoundError):
        Answers.read(tmp_path / "nothing.npz")
