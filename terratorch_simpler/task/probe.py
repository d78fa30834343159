"""Probing the backbone of a task on its own labelled tiles."""

from __future__ import annotations

from terratorch_simpler.messages import Reporter
from terratorch_simpler.probing.labels import KINDS, Labels
from terratorch_simpler.probing.probe import ProbeSettings, run_probe
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.task.build import Task


def check_task(task: Task) -> Labels:
    """Refuse a task that cannot be probed; gives what its labels are.

    Raises:
        ValueError: With the reason.
    """
    path = task.config.path
    if task.labels is None:
        raise ValueError(
            f"{path} is a {task.task}, whose labels a probe cannot read: it reads those of "
            f"{', '.join(KINDS)}"
        )
    if task.datamodule is None:
        raise ValueError(f"{path} has no data: a probe needs its labelled tiles")
    return task.labels


def probe_task(
    task: Task, settings: ProbeSettings, plan: PruningPlan | None, reporter: Reporter
) -> Probe:
    """Probe the backbone of a config on the data of its datamodule.

    Raises:
        ValueError: If it has no data, or its task no labels that a probe reads.
    """
    labels = check_task(task)
    assert task.datamodule is not None
    reporter.say(f"Probing {task.backbone.depth} blocks of {task.backbone.label} ...")
    return run_probe(task.backbone, task.datamodule, None, labels, settings, plan)
