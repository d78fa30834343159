"""Plans on a hub: against a stand-in of its HTTP interface on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan
from tests.hub import COMMIT, Hub, serve


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    """Address of an empty hub, and what answers there."""
    with serve() as served:
        yield served


def _python(code: str, address: str, folder: Path, **environment: str) -> str:
    """What a line of Python prints, with that hub: its address is read when it is imported."""
    set_up = {"HF_ENDPOINT": address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_token"}
    done = subprocess.run(
        [sys.executable, "-c", f"from terratorch_simpler import PruningPlan\n{code}"],
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | set_up | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + (done.stderr.strip().splitlines() or [""])[-1]


def test_a_plan_comes_back_as_it_was_pushed(
    hub: tuple[str, type[Hub]], make_plan: MakePlan, tmp_path: Path
) -> None:
    address, answers = hub
    plan = make_plan(4)
    plan.save(tmp_path / "plan.json")
    push = f"print(PruningPlan.load(r'{tmp_path / 'plan.json'}').push_to_hub('user/plans'))"
    assert COMMIT in _python(push, address, tmp_path)
    assert answers.files == {"user/plans": {"plan.json": plan.to_json().encode()}}
    back = _python("print(PruningPlan.from_hub('user/plans').to_json())", address, tmp_path)
    assert PruningPlan.from_json(back, "the hub") == plan
    # The cache holds it where the hub is gone.
    code = "print(PruningPlan.from_hub('user/plans').depth)"
    assert "4" in _python(code, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    # It is not replaced unasked.
    assert "overwrite=True" in _python(push, address, tmp_path)
    again = push.replace("'user/plans'", "'user/plans', overwrite=True")
    assert COMMIT in _python(again, address, tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("PruningPlan.from_hub('user/none')", "there is no plan.json in user/none"),
        ("PruningPlan.from_hub('user/plans', filename='x.json')", "there is no x.json"),
        ("PruningPlan.from_hub('a/b/c')", "'a/b/c' is no name of a repository: give user/name"),
        ("PruningPlan.from_hub('user/odd')", "plan.json of user/odd is not a plan"),
    ],
)
def test_what_is_not_there_is_said(
    hub: tuple[str, type[Hub]], tmp_path: Path, code: str, message: str
) -> None:
    address, answers = hub
    answers.files |= {"user/plans": {}, "user/odd": {"plan.json": b"{}"}}
    assert message in _python(code, address, tmp_path)


def test_a_hub_that_cannot_be_reached_or_refuses_is_said(
    hub: tuple[str, type[Hub]], make_plan: MakePlan, tmp_path: Path
) -> None:
    address, answers = hub
    code = "PruningPlan.from_hub('user/plans')"
    said = _python(code, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert "not in the hub's cache, and the hub cannot be reached" in said
    make_plan(4).save(tmp_path / "plan.json")
    answers.refuses = True
    push = f"PruningPlan.load(r'{tmp_path / 'plan.json'}').push_to_hub('user/plans')"
    assert "the hub refuses to write to user/plans" in _python(push, address, tmp_path)
    assert answers.files == {}
