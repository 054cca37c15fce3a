"""The network from other states than rest: settling from image to image, one equilibrium from anywhere, no
oscillation, no latch-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analog_deq.draws import Stream, generator
from analog_deq.records import OK
from analog_deq.statistics import dies_needed, quantile_upper_bound
from analog_deq.verify.found import Found, Section
from analog_deq.verify.read_outs import FIXED, THRESHOLD, read_out_errors, read_outs
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement, Worst
from analog_deq.verify.starts import Kind, Path, Start, predicted_settling, previous_starts, random_starts, run_starts
from analog_deq.verify.tails import Tail, distinct_states, judge_tail

Array = np.ndarray
PERCENT = 100.0
KINDS: tuple[Kind, ...] = ("uniform",) * 8 + ("corner",) * 2 + ("overload",) * 2
"""Starts of every image whose equilibrium is tried from all over the swing."""
QUANTILE, CONFIDENCE = 0.99, 0.95
SHOWN = 12
SETTLING = ("net.settle_from_previous", "net.settle_previous_err", "net.settle_p99")
READING = (THRESHOLD, FIXED)
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


def previous_samples(run: SheetRun) -> list[Sample]:
    """Steps from one test image to another, drawn independently among those with an equilibrium."""
    usable = np.flatnonzero(run.equilibria.ok)
    if len(usable) < 2:
        return []
    rng = generator(run.design.seed, Stream.DYNAMICS, 0)
    pairs = np.array([rng.choice(usable, 2, replace=False) for _ in range(run.design.verify.transitions)])
    starts = previous_starts(run.model, run.solved.h.numpy(), pairs.reshape(-1, 2))
    run.progress.note(f"{len(starts)} steps from one image to the next")
    predicted = predicted_settling(run.model, run.task.x_test, starts, run.design.verify.settle_tolerance_fs)
    return _samples(run, starts, predicted)


def random_samples(run: SheetRun) -> list[Sample]:
    """Starts all over the swing of some test images, and beyond it."""
    usable = np.flatnonzero(run.equilibria.ok)
    rng = generator(run.design.seed, Stream.DYNAMICS, 1)
    images = np.sort(rng.choice(usable, min(run.design.verify.start_images, len(usable)), replace=False))
    starts = random_starts(run.model, run.task.x_test, images, rng, KINDS)
    run.progress.note(f"{len(starts)} starts all over the swing of {len(images)} images")
    return _samples(run, starts, np.full(len(starts), np.nan))


def _samples(run: SheetRun, starts: Sequence[Start], predicted: Array) -> list[Sample]:
    flat = run.flat or not run.proxy.synapse.linear
    tolerance = run.design.verify.settle_tolerance_fs
    samples = []
    paths = run_starts(run.network, run.inputs, starts, run.bed, run.progress, flat=flat)
    for path, own in zip(paths, predicted, strict=True):
        target = run.equilibria.states.z[path.start.image]
        tail = judge_tail(path.time_s, path.z, target, tolerance) if path.status == OK else None
        samples.append(Sample(path, tail, float(own)))
    return samples


@dataclass(frozen=True, slots=True)
class Starts:
    """Settling from the previous image and what is read of it, and what becomes of starts all over the swing."""

    @property
    def ids(self) -> tuple[str, ...]:
        return SETTLING + READING + UNIQUE + ENDINGS

    def measure(self, run: SheetRun) -> Found:
        """Every transient is a sample; one that ngspice does not finish, or that does not settle, has failed."""

        def listed(names: tuple[str, ...]) -> bool:
            return any(run.listed(name) is not None for name in names)

        both = listed(ENDINGS)
        previous = previous_samples(run) if both or listed(SETTLING + READING) else []
        anywhere = random_samples(run) if both or listed(UNIQUE) else []
        tolerance = run.design.verify.settle_tolerance_fs
        states, unique = unique_states(anywhere, tolerance)
        measurements = [*settling(previous, tolerance), *unique, *endings(run, [*previous, *anywhere], tolerance)]
        samples = [*previous, *anywhere]
        table = _table(samples, [-1] * len(previous) + states)
        if listed(READING):
            paths = [sample.path for sample in previous]
            for read, column in zip(read_outs(run, paths), ("quiet_s", "fixed_s"), strict=True):
                measurements.append(read_out_errors(run, paths, read))
                table[column] = np.concatenate([read.time_s, np.full(len(anywhere), np.nan)])
        return Found(
            tuple(m for m in measurements if run.listed(m.id) is not None),
            {"starts": table, **_waves(previous)},
            (_section(samples),),
            simulated=len(samples),
            failed=sum(s.tail is None for s in samples),
        )


def settling(samples: Sequence[Sample], tolerance: float) -> list[Measurement]:
    """Worst settling time from a previous image, its prediction, and a bound of what 99 % of the steps stay below."""
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
    bound = quantile_upper_bound(times, QUANTILE, CONFIDENCE) if not lost else None
    needed = dies_needed(QUANTILE, CONFIDENCE)
    proves = "" if bound is not None else (
        f"{n} steps do not bound their {PERCENT * QUANTILE:g} % quantile at {PERCENT * CONFIDENCE:g} %: {needed} are "
        "needed; set [verify] transitions"
    )  # fmt: skip
    spread = f"median {np.median(times):.4g} s, least {times.min():.4g} s, to {PERCENT * tolerance:g} %FS"
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
            "largest seen" if bound is None else "distribution-free upper bound of the 99 % quantile, 95 % confidence",
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
            worst = Worst("nominal, from random starts", None, image)
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
    rest = [
        (f"image {t.image} from rest", t.image, judge_tail(*t.trace[:2], run.equilibria.states.z[t.image], tolerance))
        for t in run.transients
        if t.trace is not None
    ]
    mine = [(f"image {s.start.image} {s.where}", s.start.image, s.tail) for s in samples if s.tail is not None]
    every = [*rest, *mine]
    n = len(run.transients) + len(samples)
    found = []
    for name, ending in zip(ENDINGS, ("oscillating", "elsewhere"), strict=True):
        hits = [(text, image, tail) for text, image, tail in every if tail.ending == ending]
        hits.sort(key=lambda hit: -(hit[2].swing if ending == "oscillating" else hit[2].end_error))
        worst = Worst(hits[0][0], None, hits[0][1]) if hits else None
        detail = f"{len(every)} transients with an end"
        if hits:
            text, _, tail = hits[0]
            detail = (
                f"{text}: {PERCENT * tail.swing:.3g} %FS peak to peak over the last sixth of the window, "
                f"{tail.growth:.2g} times the sixth before"
                if ending == "oscillating"
                else f"{text}: at rest {PERCENT * tail.end_error:.3g} %FS from its equilibrium"
            )
        found.append(Measurement(name, float(len(hits)), "", n, None, worst, detail, n - len(every)))
    return found


def _worst(sample: Sample) -> Worst:
    return Worst(f"nominal, {sample.where}", None, sample.start.image)


def _table(samples: Sequence[Sample], states: Sequence[int]) -> pd.DataFrame:
    rows = []
    for sample, state in zip(samples, states, strict=True):
        tail, start = sample.tail, sample.start
        rows.append(
            {
                "kind": start.kind, "image": start.image,
                "before": start.before if start.kind == "previous" else -1, "status": sample.path.status,
                "ending": "" if tail is None else tail.ending, "state": state,
                "settled_s": np.nan if tail is None else tail.settled_s, "predicted_s": sample.predicted_s,
                "end_error_fs": np.nan if tail is None else tail.end_error,
                "swing_fs": np.nan if tail is None else tail.swing,
                "growth": np.nan if tail is None else tail.growth,
                "reversals": -1 if tail is None else tail.reversals,
            }
        )  # fmt: skip
    columns = ["kind", "image", "before", "status", "ending", "state", "settled_s", "predicted_s", "end_error_fs",
               "swing_fs", "growth", "reversals"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _waves(samples: Sequence[Sample]) -> dict[str, pd.DataFrame]:
    """Readings over time of the step whose settling time is the median, and of the slowest: case, time_s, z0 ..."""
    good = sorted(
        (s for s in samples if s.tail is not None and s.tail.ending == "settled"),
        key=lambda s: s.tail.settled_s if s.tail else 0.0,
    )
    if not good:
        return {}
    frames = []
    for case, sample in (("typical", good[len(good) // 2]), ("worst", good[-1])):
        z = pd.DataFrame(sample.path.z).rename(columns=lambda k: f"z{k}")
        head = {"case": case, "image": sample.start.image, "before": sample.start.before, "time_s": sample.path.time_s}
        frames.append(pd.concat([pd.DataFrame(head), z], axis=1))
    return {"starts_waves": pd.concat(frames, ignore_index=True)}


def _section(samples: Sequence[Sample]) -> Section:
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(sample.start.kind, []).append(sample)
    rows = []
    for kind, own in kinds.items():
        times = [s.tail.settled_s for s in own if s.tail is not None and s.tail.ending == "settled"]
        range_text = f"{1e6 * min(times):.3f} to {1e6 * max(times):.3f} us" if times else "-"
        others = {e: sum(s.ending == e for s in own) for e in ("slow", "oscillating", "elsewhere")}
        failed = sum(s.tail is None for s in own)
        rows.append((kind, str(len(own)), str(len(times)), range_text, *map(str, others.values()), str(failed)))
    bad = [s for s in samples if s.ending != "settled"][:SHOWN]
    text = "Transients from other states than rest."
    if bad:
        text += " Not settled: " + "; ".join(f"image {s.start.image} {s.where}: {s.ending}" for s in bad) + "."
    columns = ("start", "n", "settled", "settling time", "slow", "oscillating", "at rest elsewhere", "failed")
    return Section("starts", "Other starts", text, columns, tuple(rows))
