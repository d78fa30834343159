"""Fine-tuned models side by side."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from terratorch_simpler.results.finetuned import FineTuned, finetuned_rows, to_json
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan

FULL = FineTuned("full", 12, 6_000_000, 120.0, 60.0, "mIoU", 0.25)
PRUNED = FineTuned("probe", 2, 2_000_000, 80.0, 20.0, "mIoU", 0.24)


def test_each_model_is_compared_with_the_full_one() -> None:
    assert finetuned_rows([FULL, PRUNED]) == [
        ("blocks", "12", "2"),
        ("parameters of the model (M)", "6.00", "2.00 (3.00x fewer)"),
        ("ms per training step", "120", "80 (1.50x faster)"),
        ("ms per batch at inference", "60", "20 (3.00x faster)"),
        ("mIoU on the test tiles", "0.250", "0.240 (96% kept)"),
    ]


def test_times_come_with_their_quartiles_where_all_are_known() -> None:
    full = replace(FULL, step_quartiles=(110.0, 132.0), inference_quartiles=(60.0, 60.0))
    pruned = replace(PRUNED, step_quartiles=(66.0, 88.0))
    rows = finetuned_rows([full, pruned])
    assert rows[3] == ("  middle half of them", "110-132", "66-88 (1.2-2.0x)")
    assert len(rows) == 6
    assert len(finetuned_rows([full, replace(PRUNED, inference_quartiles=(10.0, 20.0))])) == 6
    assert json.loads(to_json([full]))[0]["step_quartiles"] == [110.0, 132.0]


def test_the_table_of_three_models_fits_into_a_terminal() -> None:
    """Also where a machine takes seconds: no number is broken."""
    full = replace(
        FULL,
        step_ms=2878.0,
        inference_ms=1277.0,
        step_quartiles=(2630.0, 2915.0),
        inference_quartiles=(1229.0, 1410.0),
    )
    models = [full, *(replace(full, name=name, depth=2) for name in ("simpler", "probe"))]
    output = io.StringIO()
    table = Table("", *(model.name for model in models), box=None, pad_edge=False)
    rows = finetuned_rows(models)
    for row in rows:
        table.add_row(*row)
    Console(file=output, width=80).print(table)
    shown = output.getvalue()
    for row in rows:
        assert all(cell in shown for cell in row[1:])
    assert "ms per batch at inference" in shown


def test_what_is_slower_is_called_so() -> None:
    rows = {row[0]: row[2] for row in finetuned_rows([FULL, replace(PRUNED, step_ms=180.0)])}
    assert rows["ms per training step"] == "180 (1.50x slower)"


def test_of_a_score_that_is_not_above_0_there_is_no_share() -> None:
    rows = finetuned_rows([replace(FULL, score=0.0), PRUNED])
    assert rows[-1] == ("mIoU on the test tiles", "0.000", "0.240")


def test_a_plan_holds_them(make_plan: MakePlan) -> None:
    plan = make_plan().model_copy(update={"finetuned": [FULL, PRUNED]})
    assert PruningPlan.from_json(plan.to_json(), "plan").finetuned == [FULL, PRUNED]
    assert "finetuned" not in make_plan().to_json()
    assert json.loads(to_json([FULL]))[0]["depth"] == 12


def test_epochs_are_kept_where_they_are_known() -> None:
    known = replace(FULL, validation=[0.1, 0.25])
    written = json.loads(to_json([known, PRUNED]))
    assert written[0]["validation"] == [0.1, 0.25]
    assert "validation" not in written[1]
    assert FineTuned(**written[0]) == known


def test_numbers_that_cannot_be() -> None:
    for wrong in ({"depth": 0}, {"step_ms": float("nan")}, {"score": float("inf")}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            replace(FULL, **wrong)
