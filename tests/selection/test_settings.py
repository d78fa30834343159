"""Settings are the one source: of the command line's options, and of the keywords of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from inspect import signature
from typing import Any

import pytest

from terratorch_simpler import select, select_task
from terratorch_simpler.baselines import BASELINES
from terratorch_simpler.cli.parser import build_parser
from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.selection.settings import Settings, settings_from

FLAGS = {"early_stop", "progress"}
"""Settings that have a flag on the command line instead: --no_early_stop, --quiet."""


@pytest.fixture
def help_of_select(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["select", "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_every_setting_is_an_option_with_its_default() -> None:
    options = build_parser().parse_args(["select"]).select
    shown = {"samples": 512, "seed": 0}
    for field in fields(Settings):
        if field.name not in FLAGS:
            assert options[field.name] == shown.get(field.name, field.default), field.name


def test_the_help_of_an_option_is_the_docstring_of_its_setting(help_of_select: str) -> None:
    assert Settings.__doc__ is not None
    docstring = " ".join(Settings.__doc__.replace("``", "").split())
    for name in {field.name for field in fields(Settings)} - FLAGS:
        _, _, said = docstring.partition(f" {name}: ")
        # Where the rest is the default, the help says it its own way.
        clause = said.partition(";")[0][:30]
        sentence = f"{clause[0].lower()}{clause[1:]}"
        assert sentence in help_of_select, name
    assert "``" not in help_of_select


@pytest.mark.parametrize("name", [*CRITERIA, PROBE, *BASELINES])
def test_the_help_names_every_criterion(help_of_select: str, name: str) -> None:
    assert name in help_of_select


@pytest.mark.parametrize("function", [select, select_task])
def test_signatures_name_every_setting(function: Callable[..., Any]) -> None:
    parameters = signature(function).parameters
    assert {field.name: field.default for field in fields(Settings)}.items() <= {
        name: parameter.default for name, parameter in parameters.items()
    }.items()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"share": 0.98}, "share goes with criterion 'probe', not with 'simpler': leave it out"),
        ({"share": 0.0, "criterion": "probe"}, "share must be above 0 and at most 1, got 0"),
        ({"share": 1.01, "criterion": "probe"}, "share must be above 0 and at most 1, got 1.01"),
        ({"depth": 3, "criterion": "probe"}, "'probe' chooses the depth itself"),
    ],
)
def test_settings_that_do_not_go_together(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Settings(**options)
    assert Settings(criterion="probe", share=1.0).share == 1


def test_options_by_name_go_before_settings() -> None:
    given = Settings(criterion="knee", tokens=4)
    settings, others = settings_from(given, {"tokens": 8, "pretrained": True})
    assert settings == Settings(criterion="knee", tokens=8)
    assert others == {"pretrained": True}
    assert settings_from(None, {}) == (Settings(), {})
