"""``net.corner_*``, ``net.rail_use``: what the whole network does at every corner, in ngspice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.statistics import paired_drop, wilson
from analog_deq.verify.corner_campaign import CornerResult, corner_campaign, corner_table
from analog_deq.verify.corner_gamma import corner_gamma
from analog_deq.verify.corners import worst_of
from analog_deq.verify.found import Found
from analog_deq.verify.rails import Swing, measured_swings, rail_share
from analog_deq.verify.regression import reading_errors, rms
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.verdict import Worst

Array = np.ndarray
PERCENT = 100.0
CLASSES = ("net.corner_accuracy", "net.corner_acc_drop")


@dataclass(frozen=True, slots=True)
class CornerNetworks:
    """Equilibria at corners: converged, near typical, as right as software, off the rails, and their power."""

    ids: tuple[str, ...] = (
        "net.corner_converged", "net.corner_err", *CLASSES, "net.corner_rel_err", "net.corner_power",
        "net.corner_gamma", "net.rail_use", "net.corner_yield",
    )  # fmt: skip

    def measure(self, run: SheetRun) -> Found:
        results = corner_campaign(run)
        nominal = [r for r in results if r.die < 0]
        found = [_converged(results), _change(nominal), _power(run, nominal)]
        if run.task.regression:
            found.append(_relative_error(run, nominal))
        else:
            found += _answers(run, nominal)
            found += _yield(run, results) if len(results) > len(nominal) else []
        if run.design.certificate.weight_class in {"A", "B"}:
            found.append(corner_gamma(run, nominal))
        if run.listed("net.rail_use") is not None:
            swings = measured_swings(run, [r.corner for r in nominal])
            found.append(_rail_use(nominal, swings))
        table = corner_table(run, results)
        failed = int((table["status"] != "ok").sum())
        listed = tuple(m for m in found if run.listed(m.id) is not None)
        return Found(listed, {"corners": table}, simulated=len(table), failed=failed)


def over_corners(
    name: str,
    unit: str,
    results: Sequence[CornerResult],
    value: Callable[[CornerResult], float],
    worse: str,
    detail: Callable[[CornerResult], str],
    worst_image: Callable[[CornerResult], int],
) -> Measurement:
    """A measurement of the nominal circuit at each corner; a failed image anywhere is a failed sample.

    ``detail`` describes the worst corner and ``worst_image`` says which of its images to simulate again.
    """
    failed = sum(int(np.sum(~r.sweep.ok)) for r in results)
    by_corner = {r.corner.name: value(r) if r.sweep.ok.any() else None for r in results}
    named, _ = worst_of(by_corner, worse)
    lost = next((r for r in results if not r.sweep.ok.any()), None)
    chosen = lost or next(r for r in results if r.corner.name == named)
    worst = worst_at(chosen, worst_image(chosen))
    told = str(chosen.sweep.status[0]) if lost else detail(chosen)
    n = sum(len(r.images) for r in results)
    text = f"{len(results[0].images)} images a corner; {chosen.corner.name}: {told}"
    return Measurement(name, by_corner[results[0].corner.name], unit, n, None, worst, text, failed, by_corner=by_corner)


def worst_at(result: CornerResult, image: int) -> Worst:
    """Where an image of a result can be simulated again."""
    die = None if result.die < 0 else result.die
    circuit = "nominal" if die is None else "mismatch die, trimmed"
    return Worst(f"{circuit}, {result.corner.name}", die, image, "equilibrium", corner=result.corner.name)


def _first_failed(result: CornerResult) -> int:
    lost = np.flatnonzero(~result.sweep.ok)
    return int(result.images[lost[0] if len(lost) else 0])


def _converged(results: Sequence[CornerResult]) -> Measurement:
    """Share of equilibria found at each corner, over dies too."""
    ok = {r.corner.name: np.concatenate([s.sweep.ok for s in results if s.corner == r.corner]) for r in results}
    share: dict[str, float | None] = {name: PERCENT * float(part.mean()) for name, part in ok.items()}
    n, failed = (int(sum(f(part) for part in ok.values())) for f in (len, lambda part: np.sum(~part)))
    bad = next((r for r in results if not r.sweep.ok.all()), None)
    low, high = wilson(n - failed, n)
    worst, told = None, ""
    if bad is not None:
        worst = worst_at(bad, _first_failed(bad))
        told = f"; {bad.corner.name}: {next(s for s in bad.sweep.status if s != 'ok')}"
    detail = f"{n - failed} of {n} equilibria at {len(share)} corners{told}"
    first = share[results[0].corner.name]
    interval = (PERCENT * low, PERCENT * high)
    return Measurement("net.corner_converged", first, "%", n, interval, worst, detail, failed, by_corner=share)


def _change(results: Sequence[CornerResult]) -> Measurement:
    """RMS distance of the states from those of the typical corner, same images."""
    typical = results[0].sweep

    def error(result: CornerResult) -> Array:
        both = result.sweep.ok & typical.ok
        return np.asarray(PERCENT * (result.sweep.states.z - typical.states.z)[both])

    def image(result: CornerResult) -> int:
        distance = np.abs(result.sweep.states.z - typical.states.z).max(axis=1)
        return int(result.images[np.argmax(np.nan_to_num(distance, nan=np.inf))])

    return over_corners(
        "net.corner_err", "%FS", results, lambda r: rms(error(r)) if error(r).size else float("nan"), "high",
        lambda r: f"largest {np.abs(error(r)).max():.3g} %FS", image,
    )  # fmt: skip


def _power(run: SheetRun, results: Sequence[CornerResult]) -> Measurement:
    """Mean power from both rails with the network at rest."""

    def watts(result: CornerResult) -> Array:
        return np.asarray(result.sweep.states.supply_w[result.sweep.ok])

    found = over_corners(
        "net.corner_power", "W", results, lambda r: float(watts(r).mean()), "high",
        lambda r: f"mean over images, rails only; largest {1e3 * watts(r).max():.4g} mW",
        lambda r: int(r.images[np.argmax(np.nan_to_num(r.sweep.states.supply_w, nan=-np.inf))]),
    )  # fmt: skip
    absent = run.proxy.not_modelled.get("power")
    if absent is None:
        return found
    return Measurement(found.id, None, "W", found.n, detail=f"not modelled: {absent}", unjudged="not_modelled")


def _right(run: SheetRun, result: CornerResult) -> tuple[Array, Array]:
    """Whether software and the circuit are right, one entry an image; a failed image is wrong."""
    label = run.task.y_test.numpy()[result.images]
    spice = run.readout.predict(torch.as_tensor(np.nan_to_num(result.sweep.states.z))).numpy()
    software = run.readout.predict(run.solved.reading[torch.as_tensor(result.images)]).numpy()
    return software == label, (spice == label) & result.sweep.ok


def _answers(run: SheetRun, results: Sequence[CornerResult]) -> list[Measurement]:
    """Accuracy at each corner, and what it loses against software on the same images."""

    def accuracy(result: CornerResult) -> str:
        right = _right(run, result)[1]
        low, high = wilson(int(right.sum()), len(right))
        return f"{right.sum()} of {len(right)} right, {PERCENT * low:.1f} to {PERCENT * high:.1f} % (Wilson, 95 %)"

    def loss(result: CornerResult) -> str:
        drop = paired_drop(*_right(run, result))
        low, high = (PERCENT * end for end in drop.interval)
        return (
            f"{drop.a_only} images only software gets right, {drop.b_only} only the circuit; {low:.1f} to {high:.1f} "
            f"points ({drop.method}, 95 %), McNemar p = {drop.p_value:.2g}"
        )

    def lost(result: CornerResult) -> int:
        software, spice = _right(run, result)
        return int(result.images[np.argmax(2 * (software & ~spice) + ~spice)])

    return [
        over_corners(
            CLASSES[0], "%", results, lambda r: PERCENT * float(_right(run, r)[1].mean()), "low", accuracy, lost
        ),
        over_corners(
            CLASSES[1], "points", results, lambda r: PERCENT * paired_drop(*_right(run, r)).drop, "high", loss, lost
        ),
    ]


def _relative_error(run: SheetRun, results: Sequence[CornerResult]) -> Measurement:
    def errors(result: CornerResult) -> Array:
        return reading_errors(run.task, run.readout, result.sweep.states.z, result.images)

    def image(result: CornerResult) -> int:
        return int(result.images[np.argmax(np.nan_to_num(errors(result) ** 2, nan=np.inf).mean(axis=1))])

    return over_corners(
        "net.corner_rel_err", "%", results, lambda r: rms(errors(r)[r.sweep.ok]), "high",
        lambda r: f"largest {np.nanmax(np.abs(errors(r))):.3g} %", image,
    )  # fmt: skip


def _yield(run: SheetRun, results: Sequence[CornerResult]) -> list[Measurement]:
    """Share of dies that meet the accuracy limit of a die at every corner."""
    limit = run.design.verify.die_max_drop
    drops: dict[int, dict[str, float]] = {}
    for result in results:
        if result.die >= 0:
            drops.setdefault(result.die, {})[result.corner.name] = paired_drop(*_right(run, result)).drop
    worst_corner = {die: max(by, key=lambda name: by[name]) for die, by in drops.items()}
    passing = sum(by[worst_corner[die]] <= limit + 1e-12 for die, by in drops.items())
    die = max(drops, key=lambda d: drops[d][worst_corner[d]])
    bad = next(r for r in results if r.die == die and r.corner.name == worst_corner[die])
    software, spice = _right(run, bad)
    image = int(bad.images[np.argmax(2 * (software & ~spice) + ~spice)])
    detail = (
        f"a die passes when it loses at most {PERCENT * limit:g} points at each of the corners, with the trim it got "
        f"at the typical one; worst: die {die} at {bad.corner.name}, {PERCENT * drops[die][bad.corner.name]:.3g} points"
    )
    low, high = wilson(passing, len(drops))
    return [
        Measurement(
            "net.corner_yield", PERCENT * passing / len(drops), "%", len(drops), (PERCENT * low, PERCENT * high),
            worst_at(bad, image), detail,
        )
    ]  # fmt: skip


def _rail_use(results: Sequence[CornerResult], swings: Mapping[str, Swing]) -> Measurement:
    """Share of neurons' integrator outputs, over images, that come near the ends of their swing."""
    shares = {r.corner.name: rail_share(r.sweep.states.v[r.sweep.ok], swings[r.corner.name]) for r in results}

    def share(result: CornerResult) -> float:
        return PERCENT * shares[result.corner.name]

    def image(result: CornerResult) -> int:
        reach = np.abs(result.sweep.states.v).max(axis=1)
        return int(result.images[np.argmax(np.nan_to_num(reach, nan=-np.inf))])

    def told(result: CornerResult) -> str:
        swing = swings[result.corner.name]
        reach = np.abs(result.sweep.states.v[result.sweep.ok]).max()
        return f"outputs reach {reach:.3g} V of {swing.text()}"

    return over_corners("net.rail_use", "%", results, share, "high", told, image)
