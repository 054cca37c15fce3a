"""What a measurement is: samples, a deck for a block of them, and rows from its plots.

A new measurement is one new file with one class, registered in ``campaign.MEASUREMENTS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.netlists.deck import SPICE_OPTIONS as SPICE_OPTIONS
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import OK, Deck, Plot
from analog_deq.spec import CalibrationPlan, DesignSpec
from analog_deq.tables import COLUMNS

Rows = dict[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Bench:
    """The design and plan being measured, and the loaded cells."""

    design: DesignSpec
    plan: CalibrationPlan
    cells: NeuronCells

    @property
    def volts_per_h(self) -> float:
        """Drive voltage of h = 1 (the testbench's transconductor is 1 / R_F)."""
        return self.design.neuron.v_unit_v


class AbstractMeasurement(ABC):
    """One measurement. ``tables`` names the tables it fills; samples are plain frozen values."""

    name: str
    tables: tuple[str, ...]

    @abstractmethod
    def samples(self, bench: Bench) -> list[Any]:
        """Every sample to be measured, in table order."""

    @abstractmethod
    def block_size(self, bench: Bench) -> int:
        """Largest number of samples in one deck."""

    @abstractmethod
    def decks(self, bench: Bench, block: Sequence[Any]) -> tuple[Deck, ...]:
        """The decks that measure a block of samples."""

    @abstractmethod
    def tabulate(self, bench: Bench, block: Sequence[Any], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        """Rows of a block from the plots of its decks, without the status column."""

    @abstractmethod
    def axes(self, bench: Bench, sample: Any) -> dict[str, dict[str, Any]]:
        """Axis values of a sample in each table, to record it when its simulation failed."""

    def failed(self, bench: Bench, sample: Any, status: str) -> Rows:
        """One row a table for a failed sample: its axes, NaN for what was to be measured, and the reason."""
        rows = {}
        for table, axes in self.axes(bench, sample).items():
            row = {column: axes.get(column, np.nan) for column in COLUMNS[table]}
            rows[table] = pd.DataFrame([{**row, "status": status}])
        return rows


def with_status(rows: Rows) -> Rows:
    """Rows of valid samples, marked so."""
    return {name: frame.assign(status=OK) for name, frame in rows.items()}
