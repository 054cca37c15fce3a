"""Column currents of an array given as two files, and its flat deck."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analog_deq.array import column_currents, in_series, sinh_read
from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.array import ArrayParameters, printed_deck
from analog_deq.units import parse_spice_number

Array = np.ndarray
LIMIT_OHM = 1e30
"""Larger numbers in a file are a slip: an open cell is written inf."""


@dataclass(frozen=True, slots=True)
class CrossbarRead:
    """Currents (inputs, columns) in amperes out of the columns, held at 0 V; Newton's moves in volts for sinh cells."""

    currents: Array
    rows: int
    deck: Path | None
    moves: tuple[float, ...] | None

    def record(self, wiring: Mapping[str, Any]) -> dict[str, Any]:
        """JSON-able content: one list of column currents for each input."""
        inputs, columns = self.currents.shape
        moves = {} if self.moves is None else {"newton_moves_v": list(self.moves)}
        return {
            "rows": self.rows, "columns": columns, "inputs": inputs, "wiring": dict(wiring),
            "column_currents_a": self.currents.tolist(), "deck": None if self.deck is None else str(self.deck), **moves,
        }  # fmt: skip


def read_crossbar(
    resistances: Path, inputs: Path, *, r_selector_ohm: float = 0.0, sinh_v: float | None = None,
    deck: Path | None = None, **wiring: Any,
) -> CrossbarRead:  # fmt: skip
    """Currents of the array in ``resistances`` for the voltages in ``inputs``; writes the flat deck to ``deck``.

    ``resistances`` has one line a word line and one value a bit line, in ohm, 0 and ``inf`` included; ``inputs`` one
    line for each input vector and one value a word line, in volts, or a single vector as a column. ``wiring`` as in
    :func:`analog_deq.array.terminal_admittance`. SpecError names file, line and value; then nothing is written.
    """
    ohm = read_matrix(resistances, "ohm", infinite=True)
    volts = read_matrix(inputs, "volts", infinite=False)
    rows, columns = ohm.shape
    if volts.shape == (rows, 1):
        volts = volts.T  # a voltage beside each word line: one input vector, written as a column
    if volts.shape[1] != rows:
        turned = "; it looks transposed" if volts.shape[0] == rows else ""
        raise SpecError(
            f"{inputs}: {volts.shape[1]} values a line, but {resistances} has {rows} word lines{turned}; write one "
            "line for each input vector, with one voltage for each word line"
        )
    if sinh_v is not None and r_selector_ohm:
        raise SpecError("cells that carry a sinh current have no linear selector in series; leave one of the two out")
    with np.errstate(divide="ignore"):
        g = in_series(torch.as_tensor(1 / ohm), r_selector_ohm)
    if sinh_v is None:
        currents, moves = column_currents(g, torch.as_tensor(volts), **wiring), None
    else:
        read = sinh_read(g, torch.as_tensor(volts), v0=sinh_v, **wiring)
        currents, moves = read.currents, read.moves
    if deck is not None:
        try:
            text = printed_deck(
                f"crossbar of {rows} word and {columns} bit lines", ArrayParameters(g.numpy(), sinh_v=sinh_v, **wiring),
                volts,
            )  # fmt: skip
        except NetlistError as error:
            raise SpecError(f"{resistances}: {error}") from error
        deck.write_text(text, encoding="ascii")
    return CrossbarRead(currents.numpy(), rows, deck, moves)


def read_matrix(path: Path, unit: str, *, infinite: bool) -> Array:
    """Numbers of a CSV file without a header, (lines, values a line). SpecError names the line and the value."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file; write comma-separated numbers") from error
    while lines and not any(cell.strip() for cell in lines[-1]):
        lines.pop()
    if not lines:
        raise SpecError(f"{path}: no numbers; write one line of comma-separated {unit} a row")
    matrix = np.empty((len(lines), len(lines[0])))
    for k, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise SpecError(
                f"{path}, line {k + 1}: {len(line)} values where line 1 has {len(lines[0])}; every line needs as many"
            )
        for i, text in enumerate(line):
            matrix[k, i] = _value(text.strip(), f"{path}, line {k + 1}, column {i + 1}", unit, infinite)
    return matrix


def _value(text: str, where: str, unit: str, infinite: bool) -> float:
    if infinite and text.lower() in ("inf", "+inf", "infinity", "open"):
        return math.inf
    if not text:
        raise SpecError(f"{where}: no value; write a number of {unit}{', or inf for an open cell' * infinite}")
    try:
        value = parse_spice_number(text, where)
    except SpecError as error:
        if text.lower().lstrip("+-") not in ("nan", "inf", "infinity"):
            raise
        also = ", or inf for an open cell" if infinite else ""
        raise SpecError(f"{where}: {text!r} is not a finite number of {unit}; write a number{also}") from error
    if infinite and not 0 <= value <= LIMIT_OHM:
        raise SpecError(f"{where}: {text} {unit}; a resistance is 0 to {LIMIT_OHM:g}, or inf for an open cell")
    return value
