"""Help: what is asked for most, in groups, with an example, and at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from terratorch_simpler.cli import main
from terratorch_simpler.cli.parser import COMMANDS
from terratorch_simpler.selection.settings import Settings


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints."""
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_says_what_is_written(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = help_of(capsys, command)
    assert said.startswith(f"usage: terratorch-simpler {command} ")
    assert f"\n\n  terratorch-simpler {command} " in said
    assert "\n\nWrites " in said
    assert "type:" not in said
    assert "null" not in said
    assert "default: False" not in said


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_a_command_is_understood(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from terratorch_simpler.cli.parser import build_parser

    said = help_of(capsys, command)
    typed = next(line for line in said.splitlines() if line.startswith("  terratorch-simpler "))
    assert build_parser().parse_args(typed.split()[1:]).subcommand == command


def test_options_of_select_stand_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of(capsys, "select")
    places = [
        said.index(f"\n{title}:\n")
        for title in (
            "What to read",
            "How to choose",
            "How to run",
            "What to write, and what to show",
        )
    ]
    assert places == sorted(places)
    read, choose, run, write = places
    for option, start, end in (
        ("--config TASK.yaml", read, choose),
        ("--tiles PATH", read, choose),
        ("--criterion NAME", choose, run),
        ("--accelerator NAME", run, write),
        ("--num_workers N", run, write),
        ("--output FOLDER", write, len(said)),
        ("--quiet", write, len(said)),
    ):
        assert start < said.index(f"\n  {option}") < end, option
    assert "height and width of a chip (default: 224)" in said


def test_every_setting_is_an_option_with_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(help_of(capsys, "select").split())
    from dataclasses import fields

    for field in fields(Settings):
        if field.name not in ("early_stop", "progress"):
            assert f"--{field.name} " in said
    assert "with probe, keep the smallest depth with this share of the best score" in said
    assert "most tiles to use (default: 512)" in said


def test_without_a_command_the_help_is_printed_and_the_status_is_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """So that a script whose variable was empty does not go on."""
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out.startswith("usage: terratorch-simpler COMMAND [options]\n")
    assert all(f"\n    {command} " in output.out for command in COMMANDS)
    assert output.err.startswith("terratorch-simpler: error: name one of select, probe, ")


@pytest.mark.parametrize("arguments", [["--help"], ["select", "--help"]])
def test_help_takes_less_than_a_second_and_no_torch(arguments: list[str]) -> None:
    code = """\
import sys, time
from terratorch_simpler.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(time.process_time(), "torch" in sys.modules, "rasterio" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    seconds, *loaded = done.stdout.splitlines()[-1].split()
    assert loaded == ["False", "False"]
    assert float(seconds) < 1
