"""Code in the documentation is read by what it is for, and run where the sample is enough."""

from __future__ import annotations

import ast
import re
from argparse import Action, ArgumentParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import terratorch_simpler
from terratorch_simpler.cli.parser import build_parser
from terratorch_simpler.cli.select import check_options, settings_of
from tests.docs.pages import DOCS, ROOT, SHELL, Block, blocks

SAMPLE = "terratorch_simpler/samples"
PYTHON = blocks("python")
COMMANDS = [block for block in blocks(*SHELL) if block.commands]
QUICK = ("docs/reference/criteria.md", "docs/reference/plan.md")
SLOW = ("docs/quick_start.md", "docs/reference/similarity.md", "docs/tiles_only.md")
"""Pages whose blocks of Python are run: these run a backbone on the sample."""


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_yaml(block: Block) -> None:
    assert yaml.safe_load(block.text) is not None


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_are_taken(block: Block) -> None:
    for arguments in block.commands:
        options = build_parser().parse_args(arguments)
        if options.subcommand == "select":
            check_options(options.select)
            settings_of(options.select)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_names_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text)
    compile(tree, str(block), "exec")
    taken = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "simpler"
    }
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "terratorch_simpler"
        for name in node.names
    }
    assert taken | imported <= set(terratorch_simpler.__all__)


def test_what_stands_on_the_sample_is_run() -> None:
    assert {block.page for block in PYTHON if SAMPLE in block.text} == set(SLOW)


def run(page: str) -> dict[str, Any]:
    """Run the blocks of a page one after the other, as a reader would."""
    names: dict[str, Any] = {}
    found = [block for block in PYTHON if block.page == page]
    assert found
    for block in found:
        exec(compile(block.text, str(block), "exec"), names)
    return names


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the root of a clone, to write into, with a plan."""
    (tmp_path / "terratorch_simpler").symlink_to(ROOT / "terratorch_simpler")
    (tmp_path / "chosen").mkdir()
    plan = ROOT / "tests/results/data/plan_v1.json"
    (tmp_path / "chosen/plan.json").write_text(plan.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("page", QUICK)
def test_python_runs_on_records_and_numbers(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(page)
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("page", SLOW)
def test_python_runs_on_the_sample(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(page)
    said = capsys.readouterr().out
    if page == "docs/quick_start.md":
        assert "10 of 12 blocks, confidence 1.0" in said
        assert names["plan"].tiles.used == 128
        assert names["plan"] == terratorch_simpler.PruningPlan.load("plan.json")
    elif page == "docs/tiles_only.md":
        assert names["plan"].tiles.used == 96
    else:
        assert names["layers"].shape == (13, 32, 16, 192)


def options_shown() -> dict[str, dict[str, str]]:
    """The options that the page of the command line lists, with their defaults, by command."""
    parts = re.split(r"^## (\w+)$", (DOCS / "command_line.md").read_text(), flags=re.M)[1:]
    return {
        command: dict(re.findall(r"^\| (.+?) \| (.*?) \| .+ \|$", text, flags=re.M))
        for command, text in zip(parts[::2], parts[1::2], strict=True)
    }


def options_of(parser: ArgumentParser) -> dict[str, str]:
    """The options of a command as that page is to write them."""
    return {
        ", ".join(f"`{option}`" for option in action.option_strings)
        or f"`{action.dest.upper()}`": default_of(action)
        for action in parser._actions
        if "--help" not in action.option_strings
    }


def default_of(action: Action) -> str:
    """A default; empty where an option is left out, or is no more than a flag."""
    if not action.option_strings or action.default is None or action.nargs == 0:
        return ""
    return f"`{action.default}`".lower()


def test_the_page_of_the_command_line_lists_every_option() -> None:
    commands = next(
        action.choices
        for action in build_parser()._actions
        if isinstance(action.choices, dict) and "select" in action.choices
    )
    assert options_shown() == {name: options_of(parser) for name, parser in commands.items()}
