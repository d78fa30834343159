"""Processes that have TerraTorch and nothing of this package: forks of one that imported it once.

The runner of a proof is a script that imports TerraTorch anew, which takes longer than all the rest
of it. What a fork forbids or loads stays in the fork.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from terratorch_simpler.exporting.proof import RUNNER

PARENT = """
import os, runpy, sys

import terratorch.tasks

assert not any(name.startswith("terratorch_simpler") for name in sys.modules)
print("ready", flush=True)
for line in sys.stdin:
    request, output = line.split("\\t")
    if (child := os.fork()) == 0:
        with open(output.strip(), "w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.argv = [sys.argv[1], request]
        status = 1
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Starts the parent when it is first needed; ``with`` ends it."""

    def __init__(self) -> None:
        self._parent: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._parent is not None:
            self._parent.communicate()

    def run(self, request: Path) -> subprocess.CompletedProcess[str]:
        """Run a request, as :func:`terratorch_simpler.exporting.proof.start` does."""
        if self._parent is None:
            self._parent = self._begin()
        parent, output = self._parent, request.with_suffix(".txt")
        assert parent.stdin is not None
        assert parent.stdout is not None
        print(f"{request}\t{output}", file=parent.stdin, flush=True)
        status = int(parent.stdout.readline())
        said = output.read_text()
        return subprocess.CompletedProcess([str(request)], status, said, said)

    def _begin(self) -> subprocess.Popen[str]:
        line = [sys.executable, "-P", "-c", PARENT, str(RUNNER)]
        pipe = subprocess.PIPE
        begun = subprocess.Popen(
            line, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        assert begun.stdout is not None
        assert begun.stdout.readline() == "ready\n"
        return begun
