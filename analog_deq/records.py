"""Frozen in-process records shared by the layers: analyses, decks, plots, and status names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

OK = "ok"
"""Status of a valid sample. Any other status string names why the sample is invalid."""


@dataclass(frozen=True, slots=True)
class Op:
    """DC operating point."""


@dataclass(frozen=True, slots=True)
class Dc:
    """Sweep of one independent source from ``start`` to ``stop`` (both included)."""

    source: str
    start: float
    stop: float
    step: float

    @property
    def points(self) -> int:
        return round((self.stop - self.start) / self.step) + 1


@dataclass(frozen=True, slots=True)
class Tran:
    """Transient from 0 to ``stop_s``; ``max_step_s`` bounds the time step."""

    step_s: float
    stop_s: float
    max_step_s: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Output noise density of ``output`` (``v(a)`` or ``v(a,b)``), ``per_decade`` points a decade."""

    output: str
    source: str
    per_decade: int
    start_hz: float
    stop_hz: float


@dataclass(frozen=True, slots=True)
class Ac:
    """Small-signal sweep, logarithmic."""

    per_decade: int
    start_hz: float
    stop_hz: float


@dataclass(frozen=True, slots=True)
class Alter:
    """New values of independent sources, applied before the next analysis: DC, or another ``parameter`` (``acmag``)."""

    values: tuple[tuple[str, float], ...]
    parameter: str = "dc"


@dataclass(frozen=True, slots=True)
class AlterStep:
    """New steps of sources declared as ``pwl``: (name, value before the next transient, value from its start on)."""

    values: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Reseed:
    """A new draw of the model library's own mismatch: ngspice's seed is set and the circuit expanded again."""

    seed: int


Analysis = Op | Dc | Tran | Noise | Ac
Command = Analysis | Alter | AlterStep | Reseed

PLOT_NAMES: Mapping[type, str] = {
    Op: "Operating Point",
    Dc: "DC transfer characteristic",
    Tran: "Transient Analysis",
    Noise: "Noise Spectral Density Curves",
    Ac: "AC Analysis",
}


@dataclass(frozen=True, slots=True)
class ExpectedPlot:
    """What a deck promises: plot name as ngspice prints it, exact points, last sweep value."""

    name: str
    points: int | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Deck:
    """Deterministic deck text, the plots it must produce in order, and the files it includes.

    ``bound`` is the largest credible magnitude of any saved value; beyond it the run is refused.
    ``files`` are (relative name, content) pairs written beside the deck, ``arguments`` the definitions ngspice is
    started with (``-D``), which a model library may need.
    """

    text: str
    plots: tuple[ExpectedPlot, ...]
    files: tuple[tuple[str, str], ...] = ()
    bound: float = 1e3
    arguments: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the result apart from the simulator's version."""
        digest = hashlib.sha256(self.text.encode())
        for name, content in self.files:
            digest.update(f"\0{name}\0{content}".encode())
        digest.update(repr((self.plots, self.bound, *self.arguments)).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot of a raw file: ``data`` is (points, variables), real or complex, float64 based."""

    name: str
    variables: tuple[str, ...]
    data: np.ndarray
    _index: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._index.update({name: k for k, name in enumerate(self.variables)})

    @property
    def sweep(self) -> np.ndarray:
        """First variable: time, frequency or the swept source. Real."""
        return np.real(self.data[:, 0])

    def __getitem__(self, variable: str) -> np.ndarray:
        """Values of one variable, shape (points,). KeyError names the missing one."""
        key = variable.lower()
        if key not in self._index:
            raise KeyError(f"{variable} is not in plot '{self.name}'; it holds {len(self.variables)} variables")
        return self.data[:, self._index[key]]

    def columns(self, variables: list[str]) -> np.ndarray:
        """Values of several variables, shape (points, len(variables))."""
        missing = [v for v in variables if v.lower() not in self._index]
        if missing:
            raise KeyError(f"{missing[:3]} not in plot '{self.name}'")
        return self.data[:, [self._index[v.lower()] for v in variables]]


class Progress:
    """Silent progress; the command line passes one that draws. Methods never raise."""

    def start(self, label: str, total: int) -> None:
        """A unit of work with ``total`` steps begins."""

    def advance(self, steps: int = 1, failed: int = 0) -> None:
        """``steps`` more are done, ``failed`` of them invalid."""

    def note(self, text: str) -> None:
        """A sentence for the person watching."""
