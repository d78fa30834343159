from __future__ import annotations

from pathlib import Path

import pytest

from tests.upstream.listed import Listed, read_listed


def written(text: str, folder: Path) -> Listed:
    path = folder / "tests.yaml"
    path.write_text(text)
    return read_listed(path)


def test_brackets_mean_themselves_and_stars_any_text(tmp_path: Path) -> None:
    listed = written(
        """
files: [test_a.py]
left_out:
  - {tests: "test_a.py::test_sizes[1-*]", why: large}
  - {tests: "test_a.py::test_deep", why: slow, modes: [uncut]}
differs:
  - {tests: "test_a.py::test_depth[vit]", why: counts blocks, modes: [third], versions: ["2"]}
""",
        tmp_path,
    )

    assert listed.is_left_out("test_a.py::test_sizes[1-8]", "third", "2")
    assert not listed.is_left_out("test_a.py::test_sizes[2-8]", "third", "2")
    assert listed.is_left_out("test_a.py::test_deep", "uncut", "2")
    assert not listed.is_left_out("test_a.py::test_deep", "third", "2")
    assert listed.may_differ("test_a.py::test_depth[vit]", "third", "2")
    assert not listed.may_differ("test_a.py::test_depthv", "third", "2")
    assert not listed.may_differ("test_a.py::test_depth[vit]", "uncut", "2")
    assert not listed.may_differ("test_a.py::test_depth[vit]", "third", "3")


@pytest.mark.parametrize(
    "entry", ["{tests: a}", "{tests: a, why: ''}", "{tests: a, why: b, mode: third}"]
)
def test_an_entry_needs_a_reason_and_known_keys(entry: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"differs\.0"):
        written(f"files: []\ndiffers: [{entry}]", tmp_path)


def test_the_list_of_this_repository_is_read() -> None:
    listed = read_listed()

    files = {entry.tests.partition("::")[0] for entry in (*listed.left_out, *listed.differs)}
    assert files <= set(listed.files)
