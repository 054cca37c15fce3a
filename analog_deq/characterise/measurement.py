"""What a measurement of a cell is: a testbench for a block of copies, and values from the plots of each copy.

A new measurement is one new file with one class, registered in ``registry.MEASUREMENTS``. A value the model cannot
have (the noise of a noiseless cell, the current of a cell without supply pins) is ``not modelled``, never a zero.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analog_deq.characterise.corners import Corner
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.contract_schema import ROLES
from analog_deq.netlists.deck import SPICE_OPTIONS as SPICE_OPTIONS
from analog_deq.netlists.deck import number
from analog_deq.records import OK, Command, Plot

NOT_MODELLED = "not modelled"
UNDEFINED = "undefined"


class WindowTooShortError(Exception):
    """The waveform had not reached its end; the campaign simulates again with a longer window."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of a datasheet. ``worse``: which end is the bad one; ``magnitude``: the value farthest from zero."""

    id: str
    unit: str
    worse: Literal["low", "high", "magnitude"]
    description: str


@dataclass(frozen=True, slots=True)
class Value:
    """One measured number. ``at`` names what it was measured at besides the corner; NaN unless ``status`` is ok."""

    quantity: str
    value: float
    at: str = ""
    status: str = OK


@dataclass(frozen=True, slots=True)
class Curve:
    """A measured curve, kept for the nominal cell: ``x`` and ``y`` of equal length."""

    name: str
    x: np.ndarray
    y: np.ndarray
    at: str = ""


def not_modelled(quantity: str, reason: str, at: str = "") -> Value:
    """The quantity does not exist in this model."""
    return Value(quantity, math.nan, at, f"{NOT_MODELLED}: {reason}")


def undefined(quantity: str, reason: str, at: str = "") -> Value:
    """The cell was simulated and has no such value (an amplifier that never reaches gain 1 has no phase margin)."""
    return Value(quantity, math.nan, at, f"{UNDEFINED}: {reason}")


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy in a deck: nodes carry its ``tag``. ``normals`` are standard normal draws of its mismatch parameters."""

    tag: str
    variant: str = "nominal"
    die: int = -1
    normals: Mapping[str, float] = field(default_factory=dict)
    overrides: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CellBench:
    """What is measured: a cell at its process corner, the corner, and the copies that share the deck.

    ``bandwidth_hz`` is the scale of the cell's own speed at this corner (GBW of an op-amp, else the -3 dB frequency),
    NaN while it is being found; ``stretch`` lengthens every time window.
    """

    cell: Cell
    corner: Corner
    copies: tuple[Copy, ...]
    bandwidth_hz: float = math.nan
    stretch: float = 1.0

    def params(self, copy: Copy, **given: float) -> dict[str, float]:
        """Instance parameters of a copy: its mismatch draws (at state ``g`` when given), overrides, then ``given``.

        States are given by name; the contract says which parameter each is.
        """
        state = given.get("g", math.nan)
        drawn = {k: n * float(self.cell.sigma(k, state)) for k, n in copy.normals.items()}
        states = self.cell.contract.state
        return {**drawn, **copy.overrides, **{states[k].param if k in states else k: v for k, v in given.items()}}

    def instance(self, copy: Copy, nodes: Mapping[str, str], name: str = "", **given: float) -> str:
        """Instance ``X<name><tag>`` of the copy. Supply pins go to ``vdd<tag>``, ``vss<tag>`` unless ``nodes`` says."""
        rails = {rail: f"{rail}{copy.tag}" for rail in ("vdd", "vss")} if self.has_supply else {}
        return self.cell.instance(f"X{name}{copy.tag}", {**rails, **nodes}, self.params(copy, **given))

    def supplies(self, copy: Copy, name: str = "") -> list[str]:
        """The copy's own rails, ``Vdd<name><tag>`` and ``Vss<name><tag>``; none for a cell without supply pins."""
        if not self.has_supply:
            return []
        rails = (("dd", self.corner.vdd_v), ("ss", self.corner.vss_v))
        return [f"V{r}{name}{copy.tag} v{r}{name}{copy.tag} 0 {number(volts)}" for r, volts in rails]

    @property
    def has_supply(self) -> bool:
        """Whether the cell's role knows supply rails and its corner sets them."""
        return "vdd" in ROLES[self.cell.role] and "vdd" in self.cell.contract.conditions

    def condition(self, name: str, default: float) -> float:
        """Typical value of a condition of the contract, such as ``load`` in farads."""
        found = self.cell.contract.conditions.get(name)
        return default if found is None else found.typ


@dataclass(frozen=True, slots=True)
class Testbench:
    """Circuit lines for every copy of a bench, the analyses they share, and the vectors to keep.

    A noise testbench saves nothing. ``options`` override ``SPICE_OPTIONS``.
    """

    title: str
    lines: Sequence[str]
    commands: Sequence[Command]
    save: Sequence[str] = ()
    options: Mapping[str, float | str | bool] = field(default_factory=dict)
    bound: float = 1e3

    __test__ = False  # no test class, whatever its name


class AbstractCellMeasurement(ABC):
    """One measurement of cells of some roles."""

    name: str
    roles: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    copies: int = 32
    """Largest number of copies in one deck."""
    ranging: bool = False
    """Whether its first value in Hz is the cell's ``bandwidth_hz``, which the other measurements are given."""

    @abstractmethod
    def testbench(self, bench: CellBench) -> Testbench:
        """Testbench of every copy of ``bench``."""

    @abstractmethod
    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        """Values of one copy, at least one for each quantity. WindowTooShortError to be simulated again, longer."""

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        """Curves of one copy worth drawing; none unless a measurement has some."""
        return []
