"""Run TerraTorch's own tests with pruned backbones: ``python -m tests.upstream.run``.

Further arguments go to pytest: ``-k prithvi``, ``--simpler unmodified,third,uncut``, ``-n 1``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.upstream.fetch import fetch, locked_archive
from tests.upstream.listed import read_listed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "upstream"
CONFIG = "[pytest]\nfilterwarnings = ignore\n"


def main(arguments: list[str]) -> int:
    """Fetch the tests of the installed TerraTorch and run those that are listed.

    Returns:
        The exit status of pytest, or 2 where there is nothing to run.
    """
    try:
        sources = fetch(locked_archive(ROOT / "uv.lock", version("terratorch")), FOLDER)
    except (ValueError, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 2
    # The tests write where they run, and are to find neither our settings nor our fixtures.
    with tempfile.TemporaryDirectory(prefix="upstream-") as folder:
        tests = Path(folder) / "tests"
        shutil.copytree(sources / "tests", tests)
        (tests / "pytest.ini").write_text(CONFIG)
        return subprocess.run(
            [sys.executable, "-m", "pytest", *_options(tests), *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            check=False,
        ).returncode


def _options(tests: Path) -> list[str]:
    files = [str(tests / file) for file in read_listed().files]
    plugin = ["-p", "tests.upstream.plugin", "-p", "no:cacheprovider"]
    places = ["-c", str(tests / "pytest.ini"), "--rootdir", str(tests)]
    return [*plugin, *places, "-q", "--tb=short", "-n", "2", "--dist", "worksteal", *files]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
