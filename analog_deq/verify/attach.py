"""The worst sample of every check as a deck of its own, beside the report, with the line that replays it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analog_deq.records import Progress
from analog_deq.verify.again import TRIMMED
from analog_deq.verify.alone import DECK, write_alone
from analog_deq.verify.alone_values import EQUILIBRIUM, Sample
from analog_deq.verify.campaign import VerifyResult
from analog_deq.verify.dies import needs_reading
from analog_deq.verify.replay import Replay
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.sweeps import Bed

MOST_ROWS = 50
"""Rows of failures.csv, from the top, that get a deck of their own; every row has its replay line."""
MOST_FLAT = 5
"""As many where the deck has to be flat: each is a hundred times as long."""


def failure_decks(
    failures: pd.DataFrame, result: VerifyResult, writer: Replay, bed: Bed, progress: Progress, folder: Path
) -> pd.DataFrame:
    """``failures`` with a column ``deck``: the path of a deck that simulates the row alone.

    It is empty below the first ``MOST_ROWS`` or ``MOST_FLAT``, and for a lost transient or noise run.
    """
    trims = {r.die: tuple(map(float, r.trim_a)) for r in result.dies}
    most = MOST_FLAT if writer.flat or needs_reading(writer.network(None)) else MOST_ROWS
    samples: dict[Any, Sample] = {}
    for index, row in failures[failures["replay"] != ""].head(most).iterrows():
        die = int(row["die"])
        trim = trims[die] if row["trim"] == TRIMMED else None
        samples[index] = Sample(EQUILIBRIUM, int(row["image"]), None if die < 0 else die, trim_a=trim)
    new = {s.name: s for s in samples.values() if not (folder / "decks" / s.name).exists()}
    progress.note(f"decks of the first {len(samples)} of {len(failures)} failing rows")
    write_alone(list(new.values()), {}, writer, bed, progress, folder)
    decks = pd.Series({row: f"decks/{s.name}/{DECK}" for row, s in samples.items()}, dtype=object)
    return failures.assign(deck=decks.reindex(failures.index).fillna(""))


def attach_decks(result: VerifyResult, writer: Replay, bed: Bed, progress: Progress, folder: Path) -> VerifyResult:
    """``result`` with a deck under ``folder/decks`` for the worst sample of each measurement that names one.

    Each deck is simulated alone, and what it gives kept beside it (:mod:`analog_deq.verify.alone`).
    """
    trims = {r.die: r.trim_a for r in result.dies}
    own = {name: deck for found in result.found for name, deck in found.decks.items()}

    def sample_of(m: Measurement) -> Sample | None:
        if m.worst is None or not m.worst.deck or (m.worst.input is None and m.worst.deck not in own):
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
