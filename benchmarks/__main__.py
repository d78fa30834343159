"""Run the benchmarks and write results and figure: ``python -m benchmarks [SECTION ...]``."""

from __future__ import annotations

import importlib
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.figure import draw, ratios_in
from terratorch_simpler.files import write_files

FOLDER = Path(__file__).parent
SECTIONS = (
    *("pruning", "finetuning", "selection", "peers", "memory", "archive", "profiling"),
    *("maps", "embedding", "decoders"),
)
ASKED = ("exports",)
"""Sections that run when they are asked for: a fresh process for each file takes long."""


def main(sections: list[str]) -> None:
    """Measure, print, and write ``results.json`` and ``results.svg`` beside this file.

    Results of sections that are not asked for stay in the file.
    """
    for section in sections:
        if section not in (*SECTIONS, *ASKED):
            sys.exit(f"no benchmark {section!r}: there are {', '.join((*SECTIONS, *ASKED))}")
    file = FOLDER / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    results |= {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "terratorch", "torchgeo", "timm")},
    }
    results.setdefault("seconds", {})
    for section in sections:
        start = time.perf_counter()
        found = importlib.import_module(f"benchmarks.{section}").measure()
        results[section] = {}
        # Written case by case, since all of them take half an hour.
        for name, value in found.items() if isinstance(found, dict) else found:
            results[section][name] = value
            results["seconds"][section] = round(time.perf_counter() - start)
            print(f"{section} {name}: {json.dumps(value)}", flush=True)
            files: dict[Path, str | bytes] = {file: json.dumps(results, indent=1) + "\n"}
            if ratios_in(results):
                files[FOLDER / "results.svg"] = draw(results)
            write_files(files, overwrite=True)
        print(f"{section}: {results['seconds'][section]} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(SECTIONS))
