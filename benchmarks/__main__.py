"""Run every benchmark and write one results file: ``python -m benchmarks``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import archive, finetuning, pruning, selection
from terratorch_simpler.files import write_files

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Measure, print and write ``benchmarks/results.json``."""
    results = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "terratorch", "torchgeo")},
        "pruning": pruning.measure(),
        "finetuning": finetuning.measure(),
        "selection": selection.measure(),
        "archive": archive.measure(),
    }
    text = json.dumps(results, indent=1)
    print(text)
    write_files({RESULTS: text + "\n"}, overwrite=True)


if __name__ == "__main__":
    main()
