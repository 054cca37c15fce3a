"""What each cause costs the trained network, spot-checked by switching it off in the netlist; what to fix first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from torch import as_tensor

from analog_deq.attribution.attribute import Scope, attribute, die_causes, present
from analog_deq.attribution.causes import DESIGN_CAUSES, MODEL_CAUSE, READ_CAUSES
from analog_deq.attribution.costs import Attribution, Cost, GroupCosts
from analog_deq.attribution.dies import DieDraws
from analog_deq.attribution.setting import Setting
from analog_deq.errors import SimulationError
from analog_deq.records import Deck
from analog_deq.statistics import mean_interval, paired_drop
from analog_deq.verify.found import Found
from analog_deq.verify.mismatch_response import drawn_dies, measure_response
from analog_deq.verify.removal import OK, PERCENT, Removal
from analog_deq.verify.report.causes import draw_causes, fix_section
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.switched_off import SwitchedOff
from analog_deq.verify.verdict import Worst

DIES, IMAGES = 8, 32
"""Dies and images of each that the attribution works out on the proxy."""
CHECKED_DIES, CHECKED_IMAGES, TRANSIENTS = 3, 25, 4
"""Dies and images of each with which a cause is switched off in ngspice, and images simulated in time."""
DECK = "switched-off"
"""Name of the deck of the worst disagreement."""
ERR, OUTSIDE, FIRST = "net.attribution_err", "net.attribution_outside", "net.first_cause"


@dataclass(frozen=True, slots=True)
class AttributionCheck:
    """Shapley shares on the proxy, and every cause the cells have a switch for switched off in ngspice.

    ``net.attribution_err`` is the largest disagreement of the two on what a removal does, ``net.attribution_outside``
    the number of causes beyond the stated error, ``net.first_cause`` the cost of the dearest one.
    """

    ids: tuple[str, ...] = (ERR, OUTSIDE, FIRST)

    def measure(self, run: SheetRun) -> Found:
        if not run.proxy.synapse.linear:
            why = (
                f"the synapses bend by {PERCENT * run.proxy.synapse.bend:.2g} %, which the attribution's array does not"
            )
            units = ("%FS", "", "%FS")
            return Found(
                tuple(
                    Measurement(name, None, unit, 0, detail=why, unjudged="info")
                    for name, unit in zip(self.ids, units, strict=True)
                )
            )
        setting = Setting.of(run.design, run.proxy, run.checkpoint, run.cells)
        base = SwitchedOff(setting, run.task, run.readout, run.bed, run.progress, run.flat)
        dies = range(min(DIES, run.design.verify.dies))
        try:
            response = measure_response(run.design, run.proxy, run.plan, run.cells, run.bed, run.progress)
            draws = drawn_dies(run.network, response, dies, run.bed, run.progress)
        except SimulationError as problem:
            detail = f"the cells' mismatch could not be measured: {problem.reason}"
            lost = Measurement(ERR, None, "%FS", 1, detail=detail, failed_samples=1)
            return Found((lost,), simulated=1, failed=1)
        removals = removed(base, draws, CHECKED_DIES, CHECKED_IMAGES, TRANSIENTS)
        removals += [base.noise(c, run.noise) for c in present(setting, READ_CAUSES) if c.name == "noise"]
        run.progress.note(f"attribution on the proxy: {len(dies)} dies x {IMAGES} images")
        costs = attribute(
            run.design, run.proxy, run.checkpoint, run.task, setting=setting, draws=draws,
            scope=Scope(len(dies), IMAGES),
        )  # fmt: skip
        model = proxy_error(run)
        costs = costs if model is None else replace(costs, groups=(*costs.groups, model))
        rows, decks = measurements(costs, removals), {}
        if rows[0].worst is not None and (deck := worst_deck(base, draws, removals)) is not None:
            decks[DECK] = deck
        return Found(
            rows,
            {"attribution": costs.frame(), "attribution_removals": removal_frame(removals)},
            (fix_section(costs, removals),), (draw_causes(costs, removals),),
            sum(r.n for r in removals), sum(r.failed for r in removals), decks,
        )  # fmt: skip


def removed(base: SwitchedOff, draws: DieDraws, dies: int, images: int, transients: int) -> list[Removal]:
    """Every cause of the network that has a switch in its netlist, switched off in ngspice, but for noise."""
    first = draws.first(dies)
    found = base.design(present(base.setting, DESIGN_CAUSES), images)
    found += base.dies(die_causes(first), first, images)
    timed = [cause for cause in present(base.setting, READ_CAUSES) if cause.name not in ("noise", "ADC")]
    return found + base.read([*timed, *base.timed(first)], first, transients)


def proxy_error(run: SheetRun) -> GroupCosts | None:
    """The proxy's own error: the nominal circuit's equilibria against it. None without a valid one."""
    ok = run.equilibria.ok
    if not ok.any():
        return None
    reading = run.solved.reading.numpy()
    square = PERCENT**2 * np.mean((run.equilibria.states.z - reading)[ok] ** 2, axis=1)
    low, high = mean_interval(square) if len(square) > 1 else (0.0, np.inf)
    lost, lost_low, lost_high = 0.0, -np.inf, np.inf
    if not run.task.regression:
        y = run.task.y_test.numpy()[ok]
        right = [run.readout.predict(as_tensor(part[ok])).numpy() == y for part in (reading, run.equilibria.states.z)]
        drop = paired_drop(*right)
        lost, lost_low, lost_high = (PERCENT * v for v in (drop.drop, *drop.interval))
    total = float(square.mean())
    root = float(np.sqrt(total))
    cost = Cost(
        MODEL_CAUSE, (total, lost), (low, lost_low), (high, lost_high), (total, lost), (total, lost), root, len(square)
    )
    return GroupCosts("model", "the nominal proxy", (cost,), root, lost, True, 1)


def measurements(costs: Attribution, removals: Sequence[Removal]) -> tuple[Measurement, ...]:
    """The check's rows."""
    tried = [r for r in removals if r.n]
    good = [r for r in tried if r.status == OK]
    failed = len(tried) - len(good)
    err, outside = Measurement(ERR, None, "%FS", len(tried), failed_samples=failed), [r for r in good if not r.agrees]
    if good:
        worst = max(good, key=lambda r: r.disagreement_fs)
        detail = (
            f"worst: {worst.cause}, stated error {worst.stated_fs:.2g} %FS; {len(good)} causes switched off in ngspice"
        )
        where = Worst(f"{worst.cause} switched off in the netlist", worst.die, worst.image, DECK)
        if worst.cause == "noise":
            where = replace(where, condition="everything on", deck="noise")
        err = replace(err, value=worst.disagreement_fs, detail=detail, worst=where)
    names = f"beyond their stated error: {', '.join(r.cause for r in outside)}" if outside else ""
    at = err.worst if outside else None
    beyond = float(len(outside)) if good else None
    count = Measurement(OUTSIDE, beyond, "", len(tried), None, at, names, failed)
    first = costs.to_fix[0]
    detail = f"{first.cause.name}: {first.cause.what}; {costs.left_without(first):.3g} of {costs.delivered_fs:.3g} %FS"
    return (
        err, count,
        Measurement(FIRST, first.share_fs, "%FS", first.n, first.interval_fs, detail=f"{detail} would be left"),
    )  # fmt: skip


def worst_deck(base: SwitchedOff, draws: DieDraws, removals: Sequence[Removal]) -> Deck | None:
    """Standalone deck of the worst disagreement; of noise there is one already."""
    worst = max((r for r in removals if r.status == OK), key=lambda r: r.disagreement_fs)
    causes = [*DESIGN_CAUSES, *die_causes(draws), *READ_CAUSES, *base.timed(draws)]
    cause = next(c for c in causes if (c.group, c.name) == (worst.group, worst.cause))
    return None if cause.name == "noise" else base.deck(cause, worst)


def removal_frame(removals: Sequence[Removal]) -> pd.DataFrame:
    """One row a cause switched off: moves and drops in %FS by proxy and ngspice, stated error, samples, status."""
    return pd.DataFrame(
        [
            {**asdict(r), "stated_fs": r.stated_fs, "disagreement_fs": r.disagreement_fs, "agrees": r.agrees}
            for r in removals
        ]
    )
