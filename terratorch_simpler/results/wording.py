"""The words for a plan, shared by warnings, the terminal, the log and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.results.blocks import block_ranges
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import SHARE, Probe
from terratorch_simpler.results.savings import Savings
from terratorch_simpler.results.tiles import TilesRecord

NAMED = 5
"""Most scenes that a sentence names."""
SHALLOW = 1 / 4
"""Share of the blocks below which criteria were sure and lost more than a tenth of the accuracy."""
SAME_SCALE = 4.0
"""Factor up to which outputs count as equally spread."""


def decision_sentence(plan: PruningPlan) -> str:
    """The decision in one sentence."""
    backbone = plan.backbone
    share = backbone.kept_parameters / backbone.parameters
    sure = "" if plan.confidence is None else f", chosen by {plan.confidence:.0%} of resamples"
    on = f"criterion {plan.criterion} on {plan.tiles.used} tiles"
    if plan.criterion == PROBE and plan.probe is not None:
        on = _labels_that_decide(plan.probe)
    which = "the first" if isinstance(plan.spec, int) else "a selection of"
    return (
        f"Keep {which} {plan.depth} of {plan.total_depth} blocks of {backbone.name} "
        f"({backbone.kept_parameters / 1e6:.2f} M parameters, {share:.0%} of the full backbone): "
        f"{on}{sure}."
    )


def _labels_that_decide(probe: Probe) -> str:
    rule = "within one standard error of"
    if probe.asked_share is not None:
        rule = f"with {_percent(probe.asked_share)} of"
    return (
        f"criterion {PROBE}, the smallest depth {rule} the best {probe.metric} on "
        f"{probe.train_tiles} training and {_several(probe.val_tiles, 'validation tile')}"
    )


def warnings_of(plan: PruningPlan) -> list[str]:
    """What was warned of when a plan was made; of plans that do not say, what follows from them."""
    return doubts(plan) if plan.warnings is None else plan.warnings


def doubts(plan: PruningPlan) -> list[str]:
    """What to know before trusting the plan; empty where nothing speaks against it."""
    found = []
    by_labels = plan.criterion == PROBE
    if plan.backbone.pretrained is False:
        what = "the features" if by_labels else "similarity"
        says = "say" if by_labels else "says"
        found.append(
            f"{plan.backbone.name} was not pre-trained: {what} of random weights {says} nothing "
            "about the depth a task needs (set pretrained)"
        )
    if plan.stabilizes is False:
        found.append(
            f"no part of {plan.backbone.name} is flatter than what comes before it on these tiles "
            f"(largest score {max(plan.scores.values()):+.4f}): cutting to {plan.depth} blocks may "
            "cost accuracy, compare with a deeper cut"
        )
    if plan.settled is False and by_labels and plan.probe is not None:
        sure = _resamples(plan.probe)
        found.append(f"the labelled validation tiles do not settle depth {plan.depth}{sure}")
    elif plan.settled is False:
        shares = ", ".join(f"{depth}: {share:.0%}" for depth, share in plan.depth_shares.items())
        found.append(f"the tiles do not settle the depth ({shares}): {_way_out(plan)}")
    if plan.settled and plan.criterion in CRITERIA and plan.depth < SHALLOW * plan.total_depth:
        found.append(
            "fewer than a quarter of the blocks are kept: wherever a criterion was sure of a depth "
            "and lost more than a tenth of the accuracy (docs/evidence.md), it was by such a cut; "
            f"compare with a third of the blocks ({round(plan.total_depth / 3)}), or ask labels "
            f"(--criterion {PROBE})"
        )
    if plan.output_scale is not None and not 1 / SAME_SCALE <= plan.output_scale <= SAME_SCALE:
        found.append(
            f"{plan.backbone.name} puts no norm on its last output, and that of the kept blocks is "
            f"{plan.output_scale:.2g} times as spread as that of all: a head without a norm of its "
            "own can train badly, take a decoder with batch norm (UperNetDecoder, UNetDecoder)"
        )
    found += disagreement(plan)
    if by_labels and plan.probe is not None:
        found += _doubts_of_labels(plan.probe)
    elif plan.confidence is None and plan.criterion == "rankme":
        found.append(
            "rankme is measured of one group of tiles, which says nothing of how sure it is"
        )
    elif plan.confidence is None and plan.scores:
        found.append(
            f"{plan.tiles.used} tiles make too few groups to say how sure the depth is: use at "
            f"least {6 * plan.tiles.tiles_per_group} tiles"
        )
    scalings = {taken.scaling for taken in plan.tiles.taken_for}
    if len(scalings) > 1:
        found.append(
            f"the files do not declare one scale and offset ({scaling_sentence(plan.tiles)}): "
            "bring all of them to the same units"
        )
    return found


def disagreement(plan: PruningPlan) -> list[str]:
    """What to know where labels and tiles alone say depths further apart than the labels' interval.

    Of a plan that keeps the first blocks, chosen without labels, and holds a probe.
    """
    probe = plan.probe
    if probe is None or probe.chosen is None or probe.depth_interval is None:
        return []
    low, high = probe.depth_interval
    if low <= probe.chosen <= high:
        return []
    depths = str(low) if low == high else f"{low} to {high}"
    return [f"labels say {depths} of {plan.total_depth} blocks, the tiles alone say {probe.chosen}"]


def with_probe(plan: PruningPlan, probe: Probe) -> PruningPlan:
    """A plan with what labels say beside it, and with a warning where they disagree."""
    found = plan.model_copy(update={"probe": probe})
    # A plan that does not say its warnings says what follows from it.
    if plan.warnings is None:
        return found
    # It may hold another probe, of which this was said.
    earlier = disagreement(plan)
    kept = [warning for warning in plan.warnings if warning not in earlier]
    return found.model_copy(update={"warnings": [*kept, *disagreement(found)]})


def _doubts_of_labels(probe: Probe) -> list[str]:
    """What to know before trusting a depth that labels chose."""
    found = []
    if probe.errors is None:
        found.append(
            "fewer than two labelled validation tiles leave nothing to resample: how sure the "
            "depth is, is not known"
        )
    if probe.whole <= 0:
        found.append(
            f"frozen features tell nothing of this task (the best {probe.metric} is "
            f"{probe.whole:.3f}): their depth says nothing either"
        )
    return found


def _way_out(plan: PruningPlan) -> str:
    if plan.tiles_to_settle is None:
        return "more tiles are not likely to; the criterion finds these depths alike"
    times = plan.tiles_to_settle / plan.tiles.used
    return f"about {plan.tiles_to_settle} tiles are likely to, at {times:.1f} times the time"


def scaling_sentence(tiles: TilesRecord) -> str:
    """What scales and offsets the files declare, and of how many scenes; empty if they do not."""
    counts = Counter[str | None]()
    for taken in tiles.taken_for:
        counts[taken.scaling] += taken.scenes
    if not any(counts):
        return ""
    return ", ".join(
        f"{scaling or 'none'} in {_several(count, 'scene')}" for scaling, count in counts.items()
    )


def tiles_sentence(tiles: TilesRecord) -> str:
    """How many tiles were used, and what was left out and why."""
    of = f" of {_several(tiles.scenes, 'scene')}" if tiles.scenes is not None else ""
    reasons = []
    for left in tiles.left_out:
        counts = []
        if left.chips:
            counts.append(_several(left.chips, "chip" if tiles.scenes is not None else "tile"))
        if left.scenes:
            counts.append(f"{_several(len(left.scenes), 'scene')} ({_named(left.scenes)})")
        reasons.append(f"{' and '.join(counts)} {left.reason}")
    others = (
        f"; {_several(tiles.other_files, 'file')} beside the bands not read"
        if tiles.other_files
        else ""
    )
    if tiles.closed_folders:
        reasons.append(
            f"{_several(len(tiles.closed_folders), 'folder')} ({_named(tiles.closed_folders)}) "
            "that may not be opened"
        )
    left_out = f"left out: {'; '.join(reasons)}" if reasons else "none left out"
    return f"{_several(tiles.used, 'tile')}{of} used, {left_out}{others}."


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def probe_sentence(probe: Probe) -> str:
    """From which depth on it is good enough, beside what was chosen without labels."""
    of_best = probe.reference == "best"
    whole = f"the best {probe.metric}" if of_best else f"the full depth's {probe.metric}"
    share = SHARE if probe.asked_share is None else probe.asked_share
    reached, best = probe.reaches(share), probe.best
    if reached is not None:
        sure = "" if probe.asked_share is None else _resamples(probe)
        said = f"{_percent(share)} of {whole} is reached at depth {reached}{sure}; best at {best}"
    elif of_best:
        said = (
            f"{whole} is {probe.whole:.3f} (depth {best}), of which there is no share: frozen "
            "features tell nothing of this task"
        )
    else:
        said = (
            f"{whole} is {probe.whole:.3f}, of which there is no share: frozen features tell "
            f"nothing of this task there; best at depth {best} ({probe.scores[best]:.3f})"
        )
    if probe.within_error is not None:
        sure = _resamples(probe) if probe.asked_share is None else ""
        said += f"; within one standard error of the best at {probe.within_error}{sure}"
    elif of_best:
        said += "; too few labelled validation tiles to say how sure this is"
    if probe.chosen is None:
        return f"{said[0].upper()}{said[1:]}."
    part = probe.share(probe.chosen)
    there = f" ({part:.0%} of it)" if part is not None else ""
    return f"Chosen without labels: {probe.chosen}{there}; the probe says {said}."


def _resamples(probe: Probe) -> str:
    """How sure the depth is that the labels choose; empty where that is not known."""
    if probe.depth_shares is None or probe.depth_interval is None or probe.said is None:
        return ""
    low, high = probe.depth_interval
    return (
        f" ({probe.depth_shares.get(probe.said, 0):.0%} of resamples choose it, 95% of them depths "
        f"{low} to {high})"
    )


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def probe_columns(probe: Probe) -> list[str]:
    """Names of the columns of :func:`probe_rows`, the last of which has none."""
    whole = "of the best" if probe.reference == "best" else "of the full depth"
    error = [] if probe.errors is None else ["standard error"]
    return ["layer", probe.metric, whole, *error, *probe.others, ""]


def probe_rows(probe: Probe) -> list[tuple[str, ...]]:
    """Rows of a table, with the columns of :func:`probe_columns`; the last says what it is."""
    rows = []
    shares = {SHARE, probe.asked_share or SHARE}
    marks = {
        "chosen": probe.chosen,
        **{f"{_percent(share)} reached": probe.reaches(share) for share in sorted(shares)},
        "within one error": probe.within_error,
        "best": probe.best,
    }
    for layer, score in probe.scores.items():
        part = probe.share(layer)
        others = [] if probe.errors is None else [f"{probe.errors[layer]:.3f}"]
        others += [f"{values[layer]:.3f}" for values in probe.others.values()]
        note = ", ".join(mark for mark, depth in marks.items() if depth == layer)
        portion = "-" if part is None else f"{part:.1%}"
        rows.append((str(layer), f"{score:.3f}", portion, *others, note))
    return rows


def others_rows(plan: PruningPlan) -> list[tuple[str, str, str]]:
    """What each other criterion keeps: its name, how many blocks, which; or why it says nothing."""
    kept = [(name, str(len(kept)), block_ranges(kept)) for name, kept in plan.others.items()]
    return kept + [(name, "-", f"not read: {why}") for name, why in (plan.unread or {}).items()]


def savings_rows(savings: Savings) -> list[tuple[str, str, str, str]]:
    """Rows of a table: what, full, pruned, and how many times less.

    The time is that of the fastest pass. Where all are known, a row says the median and the
    slowest, and how many times as fast the pruned one is in the worst and in the best turn.
    """
    full, pruned = savings.full, savings.pruned
    rows = [
        ("parameters (M)", full.parameters / 1e6, pruned.parameters / 1e6, ".2f"),
        ("GFLOPs", full.flops / 1e9, pruned.flops / 1e9, ".2f"),
        ("ms per forward pass", 1e3 * full.seconds, 1e3 * pruned.seconds, ".1f"),
    ]
    if full.memory is not None and pruned.memory is not None:
        rows.append(("peak memory (MB)", full.memory / 1e6, pruned.memory / 1e6, ".1f"))
    table = [
        (name, format(a, style), format(b, style), f"{a / b:.2f}x") for name, a, b, style in rows
    ]
    if savings.faster is not None:
        low, high = savings.faster
        cells = (_others(full.times or []), _others(pruned.times or []))
        table.insert(3, ("  median, slowest", *cells, f"{low:.2f}x to {high:.2f}x"))
    return table


def _others(times: Sequence[float]) -> str:
    """The median and the slowest of some times, in milliseconds."""
    return f"{1e3 * median(times):.1f}, {1e3 * max(times):.1f}"
