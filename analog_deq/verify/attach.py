"""The worst sample of every check as a deck of its own, beside the report, with the line that replays it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analog_deq.records import Progress
from analog_deq.verify.alone import DECK, write_alone
from analog_deq.verify.alone_values import Sample
from analog_deq.verify.campaign import VerifyResult
from analog_deq.verify.replay import Replay
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.sweeps import Bed


def attach_decks(result: VerifyResult, writer: Replay, bed: Bed, progress: Progress, folder: Path) -> VerifyResult:
    """``result`` with a deck under ``folder/decks`` for the worst sample of each measurement that names one.

    Each deck is simulated alone, and what it gives kept beside it (:mod:`analog_deq.verify.alone`).
    """
    trims = {r.die: r.trim_a for r in result.dies}
    own = {name: deck for found in result.found for name, deck in found.decks.items()}

    def sample_of(m: Measurement) -> Sample | None:
        if m.worst is None or m.worst.input is None or not m.worst.deck:
            return None
        kind, image, die = m.worst.deck, m.worst.input, m.worst.die
        trim = None if die is None or kind in own else tuple(map(float, trims[die]))
        rest = tuple(map(float, result.equilibria.states.z[image])) if kind == "transient" else None
        return Sample(kind, image, die, m.worst.corner, trim, rest)

    samples = {sample.name: sample for m in result.measurements if (sample := sample_of(m)) is not None}
    progress.note(f"{len(samples)} decks that run alone")
    write_alone(list(samples.values()), own, writer, bed, progress, folder)

    def attach(m: Measurement) -> Measurement:
        sample = sample_of(m)
        if sample is None or m.worst is None:
            return m
        line = f"analog-deq replay decks/{sample.name}"
        return replace(m, worst=replace(m.worst, deck=f"decks/{sample.name}/{DECK}", replay=line))

    return replace(result, measurements=tuple(map(attach, result.measurements)))
