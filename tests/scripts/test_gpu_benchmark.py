"""``benchmarks/gpu.py`` runs small where there is no GPU, so that it is known to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu

SETUP = gpu.Setup(torch.device("cpu"), quick=True)


@pytest.mark.long
def test_every_section_runs_small_on_the_cpu(tmp_path: Path) -> None:
    gpu.main(["--output", str(tmp_path), "--accelerator", "cpu", "--quick"])
    found: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found) == list(gpu.SECTIONS)
    assert {name: section["error"] for name, section in found.items() if "error" in section} == {}
    rows = found["whole models, full over cut"]["rows"]
    # Decoders by training and inference: in 16 bits twice; one decoder compiled in both.
    assert len(rows) == 4 * 2 * (2 + 1) + 2 * 2
    assert all(row["ratio"] > 0 for row in rows)
    embedded = found["patch embedding, convolution over product"]["rows"]
    assert all(row["differs"] < (1e-4 if row["precision"] == "32" else 0.05) for row in embedded)
    rounded = {row["what"]: row for row in found["DOFA in bf16-mixed"]["rows"]}
    pruned = rounded["autocast, pruned against autocast"]
    assert (pruned["patch embedding"], pruned["block 1"]) == (0, 0)
    plain = rounded["autocast, patch embedding in 32 bits against 32 bits"]
    assert plain["patch embedding"] == 0
    assert plain["block 1"] > 0


def test_a_section_that_fails_is_recorded_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(setup: gpu.Setup) -> Any:
        yield {"device": setup.device.type}
        raise RuntimeError("out of memory")

    def runs(setup: gpu.Setup) -> Any:
        yield {"batch": setup.batch}

    monkeypatch.setattr(gpu, "SECTIONS", {"one": fails, "two": runs})
    gpu.measure(SETUP, tmp_path / "new")
    found = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert found["one"]["rows"] == [{"device": "cpu"}]
    assert found["one"]["error"] == "RuntimeError: out of memory"
    assert found["two"]["rows"] == [{"batch": 2}]


def test_no_row_is_begun_when_the_time_is_over() -> None:
    cpu = torch.device("cpu")
    late = gpu.Setup(cpu, quick=False, start=SETUP.start - gpu.SECONDS - 1)
    assert late.is_late(gpu.SECONDS)
    assert not gpu.Setup(cpu, quick=False).is_late(gpu.COMPILING)
    rows = list(gpu.selection(late))
    assert [row["left out"] for row in rows] == ["the time is over"] * 2


def test_without_a_gpu_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(["--output", str(tmp_path)])
    assert "give --accelerator cpu --quick to try it" in capsys.readouterr().err
