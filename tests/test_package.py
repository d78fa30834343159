from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import terratorch_simpler

HEAVY = {"torch", "terratorch", "torchgeo", "lightning", "matplotlib", "rasterio"}


@pytest.mark.parametrize(
    "code",
    [
        "import terratorch_simpler",
        "from terratorch_simpler.cli.parser import build_parser; build_parser()",
        "from terratorch_simpler.results.plan import PruningPlan",
        "from terratorch_simpler.selection.settings import Settings; Settings()",
        "from terratorch_simpler.task.config import TaskConfig",
        "from terratorch_simpler import select_task",
        "import terratorch_simpler.cli.select, terratorch_simpler.cli.demo",
        "import terratorch_simpler.cli.predict",
        "from terratorch_simpler.results.deployment import Deployment",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    show = f"{code}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", show], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("name", terratorch_simpler.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(terratorch_simpler, name) is not None
    assert name in dir(terratorch_simpler)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        terratorch_simpler.nonsense  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    assert terratorch_simpler.__version__ == version("terratorch-simpler")


def test_the_citation_names_the_version() -> None:
    citation = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text())
    assert citation["version"] == terratorch_simpler.__version__


IMPORTED_FIRST = """
import sys
from importlib import import_module
import lightning.pytorch

for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.startswith("terratorch_simpler")]:
        del sys.modules[name]
    import_module(module)
"""
"""Imports each module into a process that has forgotten the others of the package."""


@pytest.mark.slow
def test_every_module_can_be_imported_first() -> None:
    root = Path(terratorch_simpler.__file__).parent
    modules = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in root.rglob("*.py")
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_FIRST, *sorted(modules)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
