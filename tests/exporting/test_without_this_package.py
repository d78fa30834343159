"""Exports in an environment that does not have this package."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from terratorch_simpler.exporting import proof
from terratorch_simpler.exporting.checkpoint import read_checkpoint
from terratorch_simpler.exporting.formats import onnx, terratorch
from terratorch_simpler.exporting.measure import reference_output
from terratorch_simpler.exporting.source import read_source

FOLDER = Path(__file__).parents[2] / "build" / "without"


@pytest.fixture(scope="module")
def python() -> str:
    """Python of an environment with all packages of this one but terratorch_simpler."""
    installed = Path(sysconfig.get_path("purelib"))
    if (installed / "terratorch_simpler").exists():
        pytest.skip("terratorch_simpler is installed for good, among the other packages")
    folder = FOLDER / f"{sys.version_info.major}.{sys.version_info.minor}"
    found = folder / "bin" / "python"
    if not found.exists():
        venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # What a file of paths in there names is not followed: this package is such a path.
    (site / "others.pth").write_text(f"{installed}\n")
    # -P: what lies in the working directory is not to be found either.
    line = [str(found), "-P", "-c", "import torch, terratorch_simpler"]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(line, env=bare, capture_output=True, text=True, check=False)
    assert "No module named 'terratorch_simpler'" in done.stderr
    return str(found)


@pytest.mark.slow
def test_they_give_the_same(
    saved: Path, tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    source = read_source(read_checkpoint(saved), None, False, None)
    reference = reference_output(source)
    (tmp_path / "plain").mkdir()
    terratorch.write(source, tmp_path / "plain")
    onnx.write(source, tmp_path / "model.onnx")
    monkeypatch.setattr("sys.executable", python)
    plain = proof.run_fresh("terratorch", tmp_path / "plain", source)
    np.testing.assert_array_equal(plain.output, reference)
    runtime = proof.run_fresh("onnx", tmp_path / "model.onnx", source)
    np.testing.assert_allclose(runtime.output, reference, atol=1e-4)
