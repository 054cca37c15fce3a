"""What a characterisation would cost, without simulating: decks, runs, time, and the dies each yield claim needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_deq.characterise.blocks import DIE, Block, library_drawn, prepare
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.pipeline.characterise import ask
from analog_deq.records import Deck
from analog_deq.statistics import dies_needed

YIELD_CLAIMS = (0.90, 0.95, 0.99, 0.99865)
SECONDS = {
    "static": (0.05, 0.008), "step_response": (0.09, 0.02), "integration": (0.045, 0.006), "noise": (0.028, 0.0),
    "read_noise": (0.04, 0.0),
}  # fmt: skip
"""Seconds of a deck and of each of its copies, where a measurement is not ``USUAL``."""
USUAL = (0.022, 0.001)
LIBRARY = 2.3
"""By how much devices of a model library are slower."""
DATASHEET_S = 2.0
"""Medians over the shipped cells on a core of a 2020s server; 13 campaigns took 0.5 to 2 times the sum."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a question would cost: a row per measurement, totals, and the dies each yield claim needs."""

    cell: str
    corners: tuple[str, ...]
    rows: tuple[dict[str, object], ...]
    decks: int
    analyses: int
    seconds: float
    dies: int
    dies_needed: dict[str, int]


def forecast(cell_name: str, *, runs: Path, jobs: int, out: Path | None = None, **asked: Any) -> Forecast:
    """What :func:`characterise_cell` would simulate, without simulating. With ``out``, its decks are written there.

    Each deck gets a folder of its own, with what it includes and the command that runs it; time windows are those of a
    guessed bandwidth. The time is a guide: what decks and copies of the shipped cells took, over ``jobs``.
    """
    cell = load_cell(cell_name)
    question = ask(cell, runs=runs, **asked)
    rows: list[dict[str, object]] = []
    total_decks = total_analyses = 0
    seconds = DATASHEET_S
    for m in question.measurements:
        blocks = [b for corner in question.corners for b in question.blocks(m, corner, _guess_bandwidth(cell))]
        prepared = [prepare(cell, block, question.seed) for block in blocks]
        analyses = sum(len(p.deck.plots) for p in prepared)
        copies = sum(len(b.variants) for b in blocks)
        cost = sum(_seconds(cell, block) for block in blocks) / max(1, jobs)
        rows.append(
            {"measurement": m.name, "copies": copies, "decks": len(prepared), "analyses": analyses, "seconds": cost}
        )
        total_decks, total_analyses, seconds = total_decks + len(prepared), total_analyses + analyses, seconds + cost
        if out is not None:
            for item in prepared:
                _write_deck(item.deck, out / f"{m.name}_{item.block.corner.name}_{item.deck.sha256[:8]}")
    needed = {f"{claim:.5g}": dies_needed(claim) for claim in YIELD_CLAIMS}
    return Forecast(
        cell.name, tuple(c.name for c in question.corners), tuple(rows), total_decks, total_analyses, seconds,
        len(question.dies), needed,
    )  # fmt: skip


def _seconds(cell: Cell, block: Block) -> float:
    deck, copy = SECONDS.get(block.measurement.name, USUAL)
    copies = len(block.variants)
    once = LIBRARY if cell.contract.models is not None else 1.0
    if library_drawn(cell) and block.variants[0][0] == DIE:
        return once * copies * (deck + copy)  # one after the other
    return once * (deck + copies * copy)


def _guess_bandwidth(cell: Cell) -> float:
    return 1e6 if any(m.ranging for m in measurements_of(cell.role)) else math.nan


def _write_deck(deck: Deck, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["ngspice -n", *(f"-D {argument}" for argument in deck.arguments), "-b deck.cir"])
    for name, content in (("deck.cir", deck.text), *deck.files, ("command.txt", f"{command}\n")):
        (folder / name).write_text(content)
