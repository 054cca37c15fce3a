"""The rows of the dynamics: what a set of transients from other states than rest says as measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analog_deq.statistics import dies_needed, quantile_upper_bound
from analog_deq.units import engineering
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement, Worst
from analog_deq.verify.starts import Path, Start
from analog_deq.verify.tails import Tail, distinct_states, judge_tail

Array = np.ndarray
PERCENT = 100.0
QUANTILE = 0.99
SETTLING = ("net.settle_from_previous", "net.settle_previous_err", "net.settle_p99")
UNIQUE = ("net.unique_fp", "net.start_spread")
ENDINGS = ("net.oscillation", "net.latch_up")


@dataclass(frozen=True, slots=True)
class Sample:
    """One transient and how it ended; ``tail`` is None where the simulation failed. ``predicted_s`` is the proxy's."""

    path: Path
    tail: Tail | None
    predicted_s: float = float("nan")

    @property
    def start(self) -> Start:
        return self.path.start

    @property
    def ending(self) -> str:
        """How it ended, or why there is no end."""
        return self.path.status if self.tail is None else self.tail.ending

    @property
    def where(self) -> str:
        """The start in words."""
        kind, before = self.start.kind, self.start.before
        return f"from image {before}" if kind == "previous" else f"from a {kind} start"


def settling(samples: Sequence[Sample], tolerance: float, confidence: float = 0.95) -> list[Measurement]:
    """Worst settling time from a previous image, its prediction, and a bound of what 99 % of the steps stay below.

    The bound holds with ``confidence``, whatever the distribution.
    """
    n = len(samples)
    good = [s for s in samples if s.tail is not None and s.tail.ending == "settled"]
    lost = n - len(good)
    if not good:
        units = zip(SETTLING, ("s", "%", "s"), strict=True)
        return [Measurement(name, None, unit, n, detail="no step settled", failed_samples=lost) for name, unit in units]
    times = np.array([s.tail.settled_s for s in good if s.tail is not None])
    predicted = np.array([s.predicted_s for s in good])
    moved = times > 0
    error = PERCENT * np.abs(predicted[moved] / times[moved] - 1)
    slow = good[int(np.argmax(times))]
    bound = quantile_upper_bound(times, QUANTILE, confidence) if not lost else None
    needed = dies_needed(QUANTILE, confidence)
    proves = "" if bound is not None else (
        f"{n} steps do not bound their {PERCENT * QUANTILE:g} % quantile at {PERCENT * confidence:g} %: {needed} are "
        "needed; set [verify] transitions"
    )  # fmt: skip
    median, least = engineering(float(np.median(times)), "s"), engineering(float(times.min()), "s")
    spread = f"median {median}, least {least}, to {PERCENT * tolerance:g} %FS"
    far = [s for s, m in zip(good, moved, strict=True) if m][int(np.argmax(error))] if moved.any() else slow
    return [
        Measurement(
            SETTLING[0], float(times.max()), "s", n, (float(times.min()), float(times.max())), _worst(slow), spread,
            lost,
        ),
        Measurement(
            SETTLING[1], float(error.max()) if moved.any() else None, "%", n, None, _worst(far),
            "largest over steps; the proxy's equation started at the previous image's state", lost,
        ),
        Measurement(
            SETTLING[2], float(times.max()) if bound is None else bound, "s", n, None, _worst(slow),
            "largest seen" if bound is None
            else f"distribution-free upper bound of the 99 % quantile, {PERCENT * confidence:g} % confidence",
            lost, too_few=proves if not lost else "",
        ),
    ]  # fmt: skip


def unique_states(samples: Sequence[Sample], tolerance: float) -> tuple[list[int], list[Measurement]]:
    """Which end state each start reached (-1: none), and how many an image has at most. A start without one failed."""
    n = len(samples)
    at_rest = [s.tail is not None and s.tail.ending in ("settled", "elsewhere") for s in samples]
    states, most, spread, worst = [-1] * n, 0, 0.0, None
    for image in dict.fromkeys(s.start.image for s in samples):
        own = [k for k, s in enumerate(samples) if s.start.image == image and at_rest[k]]
        found, distance = distinct_states(np.array([samples[k].path.z[-1] for k in own]), tolerance)
        for k, state in zip(own, found, strict=True):
            states[k] = int(state)
        count = int(found.max(initial=-1)) + 1
        if (count, distance) > (most, spread):
            worst = _worst(samples[own[int(np.argmax(found))]])
        most, spread = max(most, count), max(spread, distance)
    lost = n - sum(at_rest)
    images = len({s.start.image for s in samples})
    detail = f"{n // max(images, 1)} starts of each of {images} images"
    value = float(most) if most else None
    return states, [
        Measurement(UNIQUE[0], value, "", n, None, worst, f"most end states of an image; {detail}", lost),
        Measurement(UNIQUE[1], PERCENT * spread if most else None, "%FS", n, None, worst, detail, lost),
    ]


def endings(run: SheetRun, samples: Sequence[Sample], tolerance: float) -> list[Measurement]:
    """How many transients, those of the base campaign included, oscillate, and how many are stuck somewhere else."""
    z = run.equilibria.states.z
    every: list[tuple[Worst, Tail, str]] = [
        (Worst("nominal, from rest", None, t.image, "transient"), judge_tail(*t.trace[:2], z[t.image], tolerance), "")
        for t in run.transients
        if t.trace is not None
    ]
    every += [(_worst(s), s.tail, _held(run, s, tolerance)) for s in samples if s.tail is not None]
    n = len(run.transients) + len(samples)
    found = []
    for name, ending in zip(ENDINGS, ("oscillating", "elsewhere"), strict=True):
        hits = [hit for hit in every if hit[1].ending == ending]
        hits.sort(key=lambda hit: -(hit[1].swing if ending == "oscillating" else hit[1].end_error))
        detail = f"{len(every)} transients with an end"
        if hits:
            where, tail, held = hits[0]
            detail = f"image {where.input}, {where.condition}: " + (
                f"{PERCENT * tail.swing:.3g} %FS peak to peak over the last sixth of the window, "
                f"{tail.growth:.2g} times the sixth before"
                if ending == "oscillating"
                else f"at rest {PERCENT * tail.end_error:.3g} %FS from its equilibrium{held}"
            )
        worst = hits[0][0] if hits else None
        found.append(Measurement(name, float(len(hits)), "", n, None, worst, detail, n - len(every)))
    return found


def _held(run: SheetRun, sample: Sample, tolerance: float) -> str:
    """What holds a circuit that rests elsewhere, in words: the image before, or a rail; nothing when neither does."""
    path, words = sample.path, ""
    before = run.equilibria.states.z[sample.start.before]
    if sample.start.kind == "previous" and np.abs(path.z[-1] - before).max() <= 2 * tolerance:
        words += ", still where the image before left it"
    reach = max(-run.proxy.activation.start, run.proxy.activation.end) * run.design.neuron.v_unit_v
    if np.abs(path.v[-1]).max() > reach:
        words += f", an integrator at {np.abs(path.v[-1]).max():.3g} V, beyond the calibrated {reach:.3g} V"
    return words


def _worst(sample: Sample) -> Worst:
    return Worst(f"nominal, {sample.where}", None, sample.start.image, sample.start.name)
