"""The plugin, on a test file that is made up, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.upstream.run import ROOT

pytestmark = pytest.mark.long

TESTS = """
import pytest
from terratorch.registry import BACKBONE_REGISTRY

def blocks(**arguments):
    backbone = BACKBONE_REGISTRY.build("prithvi_eo_v2_tiny_tl", img_size=32, depth=3, **arguments)
    return len(backbone.blocks)

def test_same(): assert blocks() > 0
def test_counts(): assert blocks() == 3, "other blocks"
def test_counts_as_well(): assert blocks() == 3
def test_fails(): assert blocks() == 7
def test_skips(): blocks(); pytest.skip("no data")
def test_other(): assert False
def test_convolutional(): BACKBONE_REGISTRY.build("timm_resnet18", pretrained=False)
def test_left_out(): blocks()

@pytest.fixture(scope="module")
def of_module(): return blocks()
def test_fixture(of_module): assert of_module == 3
"""
LIST = """
files: [test_made_up.py, test_gone.py]
left_out: [{tests: "test_made_up.py::test_left_out", why: slow}]
differs:
  - {tests: "test_made_up.py::test_counts_as_well", why: counts blocks, modes: [third]}
  - {tests: "test_made_up.py::test_same", why: counts blocks, modes: [uncut]}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "test_made_up.py").write_text(TESTS)
    (folder / "tests.yaml").write_text(LIST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    plugin = ["-p", "tests.upstream.plugin", "--simpler-list", str(folder / "tests.yaml")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "--color=no", "-n", "1", str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_differs_and_is_not_listed_fails(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stderr
    assert "test_made_up.py::test_counts (third): passes with the full backbone." in run.stdout
    assert "other blocks" in run.stdout
    # A fixture of the module is made anew for each mode.
    assert "test_made_up.py::test_fixture (third): passes with the full backbone." in run.stdout
    assert "2 failed, 2 passed" in run.stdout


def test_the_list_has_to_stay_true(run: subprocess.CompletedProcess[str]) -> None:
    assert "test_made_up.py::test_same (uncut): no longer differs" in run.stdout
    assert "test_gone.py (third): no pruned backbone was built" in run.stdout
    assert "test_counts_as_well (third): passes" not in run.stdout


def test_the_table_counts_what_was_swapped(run: subprocess.CompletedProcess[str]) -> None:
    (row,) = re.findall(r"^test_made_up\.py .*", run.stdout, re.MULTILINE)

    unmodified, third, uncut = re.split(r"  +", row)[1:4]
    assert unmodified == "1 failed, 3 passed, 1 skipped"
    assert third == "1 as listed, 2 as unmodified, 2 differs, 1 passed"
    assert uncut == "2 as unmodified, 4 passed"
    assert "not swapped: timm_resnet18: it is hierarchical or convolutional" in run.stdout
