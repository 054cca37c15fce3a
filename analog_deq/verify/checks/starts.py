"""The network from other states than rest: settling from image to image, one equilibrium from anywhere, no
oscillation, no latch-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analog_deq.draws import Stream, generator
from analog_deq.records import OK, Deck
from analog_deq.verify.found import Found, Section
from analog_deq.verify.read_outs import FIXED, THRESHOLD, read_out_errors, read_outs
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.start_rows import ENDINGS, SETTLING, UNIQUE, Sample, endings, settling, unique_states
from analog_deq.verify.starts import (
    Kind,
    Start,
    predicted_settling,
    previous_starts,
    random_starts,
    run_starts,
    start_deck,
)
from analog_deq.verify.tails import judge_tail

Array = np.ndarray
PERCENT = 100.0
KINDS: tuple[Kind, ...] = ("uniform",) * 8 + ("corner",) * 2 + ("overload",) * 2
"""Starts of every image whose equilibrium is tried from all over the swing."""
SHOWN = 12
READING = (THRESHOLD, FIXED)


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
        asked = run.listed("net.settle_p99")
        confidence = 0.95 if asked is None else asked.confidence
        measurements = [
            *settling(previous, tolerance, confidence),
            *unique,
            *endings(run, [*previous, *anywhere], tolerance),
        ]
        samples = [*previous, *anywhere]
        table = _table(samples, [-1] * len(previous) + states)
        if listed(READING):
            paths = [sample.path for sample in previous]
            for read, column in zip(read_outs(run, paths), ("quiet_s", "fixed_s"), strict=True):
                measurements.append(read_out_errors(run, paths, read))
                table[column] = np.concatenate([read.time_s, np.full(len(anywhere), np.nan)])
        kept = tuple(m for m in measurements if run.listed(m.id) is not None)
        return Found(
            kept,
            {"starts": table, **_waves(previous)},
            (_section(samples),),
            decks=_decks(run, samples, {m.worst.deck for m in kept if m.worst is not None}),
            simulated=len(samples),
            failed=sum(s.tail is None for s in samples),
        )


def _decks(run: SheetRun, samples: Sequence[Sample], names: set[str]) -> dict[str, Deck]:
    """Standalone decks of the starts with these names."""
    flat = run.flat or not run.proxy.synapse.linear
    named = {sample.start.name: sample.start for sample in samples if sample.start.name in names}
    return {name: start_deck(run.network, run.inputs, [start], flat=flat) for name, start in named.items()}


def _table(samples: Sequence[Sample], states: Sequence[int]) -> pd.DataFrame:
    rows = []
    for sample, state in zip(samples, states, strict=True):
        tail, start = sample.tail, sample.start
        rows.append(
            {
                "kind": start.kind, "number": start.number, "image": start.image,
                "before": start.before if start.kind == "previous" else -1, "status": sample.path.status,
                "ending": "" if tail is None else tail.ending, "state": state,
                "settled_s": np.nan if tail is None else tail.settled_s, "predicted_s": sample.predicted_s,
                "end_error_fs": np.nan if tail is None else tail.end_error,
                "swing_fs": np.nan if tail is None else tail.swing,
                "growth": np.nan if tail is None else tail.growth,
                "reversals": -1 if tail is None else tail.reversals,
            }
        )  # fmt: skip
    columns = ["kind", "number", "image", "before", "status", "ending", "state", "settled_s", "predicted_s",
               "end_error_fs", "swing_fs", "growth", "reversals"]  # fmt: skip
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
