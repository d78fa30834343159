"""When and by what a plan was made."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from terratorch_simpler.results.made import Made
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan


def test_a_plan_keeps_it_and_does_without(make_plan: MakePlan) -> None:
    made = Made.now("terratorch-simpler select --config 'a b.yaml'", "a b.yaml")
    plan = make_plan().model_copy(update={"made": made})
    written = plan.to_json()
    assert PruningPlan.from_json(written, "plan").made == made
    assert json.loads(written)["made"]["at"] == made.when
    assert "made" not in json.loads(make_plan().to_json())


def test_what_there_was_not_is_not_written() -> None:
    made = Made.now(None, None)
    assert made.at.tzinfo == UTC
    assert abs((datetime.now(UTC) - made.at).total_seconds()) < 60
    assert set(json.loads(made.model_dump_json())) == {"at"}


def test_a_time_without_a_zone_says_nothing(make_plan: MakePlan) -> None:
    data = json.loads(make_plan().to_json()) | {"made": {"at": "2026-03-01T12:05:09"}}
    with pytest.raises(ValueError, match=r"made\.at.*timezone"):
        PruningPlan.from_json(json.dumps(data), "plan.json")
