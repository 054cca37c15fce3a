"""Corners: process, temperature and supply, by names that can be typed again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from analog_deq.errors import SpecError
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.contract_schema import Condition

TYPICAL_CELSIUS = 27.0


@dataclass(frozen=True, slots=True)
class Corner:
    """One point of the grid. A cell without a supply has ``vdd_v`` = ``vss_v`` = 0."""

    process: str
    temperature_celsius: float
    vdd_v: float = 0.0
    vss_v: float = 0.0

    @property
    def name(self) -> str:
        """Such as ``ss_m40C_1p62V``: process, temperature, total supply.

        >>> Corner("ss", -40.0, 0.81, -0.81).name
        'ss_m40C_1p62V'
        """
        supply = self.vdd_v - self.vss_v
        parts = [self.process, f"{_text(self.temperature_celsius)}C"]
        return "_".join([*parts, f"{_text(supply)}V"] if supply else parts)

    @property
    def middle_v(self) -> float:
        """Voltage half way between the rails."""
        return (self.vdd_v + self.vss_v) / 2


def _text(value: float) -> str:
    return f"{value:.6g}".replace("-", "m").replace(".", "p")


def typical_corner(cell: Cell) -> Corner:
    """The cell's typical process, temperature and supply."""
    conditions = cell.contract.conditions
    temperature = conditions["temp"].typ if "temp" in conditions else TYPICAL_CELSIUS
    return Corner(cell.processes[0], temperature, *_supplies(cell)[0])


def full_grid(cell: Cell) -> list[Corner]:
    """Every process x temperature x supply of the contract, the typical corner first."""
    conditions = cell.contract.conditions
    temperatures = _points(conditions["temp"]) if "temp" in conditions else [TYPICAL_CELSIUS]
    return [Corner(p, t, *s) for p, t, s in itertools.product(cell.processes, temperatures, _supplies(cell))]


def quick_grid(cell: Cell, worst: Sequence[str] = ()) -> list[Corner]:
    """The typical corner and the ``worst`` found by an earlier full run; else slow and fast, hot and cold."""
    return _quick(full_grid(cell), worst)


def select_corners(cell: Cell, choice: str, worst: Sequence[str] = ()) -> list[Corner]:
    """Corners of ``typ``, ``quick``, ``full`` or a comma-separated list of names. SpecError lists the known names."""
    return select_from(full_grid(cell), choice, worst)


def select_from(
    grid: Sequence[Corner], choice: str, worst: Sequence[str] = (), where: str = "--corners"
) -> list[Corner]:
    """Corners of a full ``grid`` that starts with the typical one, as :func:`select_corners`; ``where`` asked for them.

    >>> grid = [Corner("tt", 27.0), Corner("tt", -40.0), Corner("tt", 125.0)]
    >>> [corner.name for corner in select_from(grid, "tt_125C, tt_27C")]
    ['tt_125C', 'tt_27C']
    """
    if choice == "typ":
        return [grid[0]]
    if choice == "quick":
        return _quick(grid, worst)
    if choice == "full":
        return list(grid)
    by_name = {corner.name: corner for corner in grid}
    names = [name.strip() for name in choice.split(",") if name.strip()]
    for name in names:
        if name not in by_name:
            raise SpecError(f"{where} {choice}: no corner {name!r}; use typ, quick, full, or of {', '.join(by_name)}")
    if not names:
        raise SpecError(f"{where}: empty; use typ, quick, full, or names separated by commas")
    return [by_name[name] for name in dict.fromkeys(names)]


def _quick(grid: Sequence[Corner], worst: Sequence[str]) -> list[Corner]:
    names = set(worst)
    if not names:
        processes = list(dict.fromkeys(c.process for c in grid))
        processes = [p for p in processes if p in {"ss", "ff"}] or processes
        temperatures = {c.temperature_celsius for c in grid}
        extremes = {min(temperatures), max(temperatures)}
        names = {
            c.name for c in grid
            if c.process in processes and c.temperature_celsius in extremes and c.vdd_v == grid[0].vdd_v
        }  # fmt: skip
    return [grid[0], *(c for c in grid[1:] if c.name in names)]


def _points(condition: Condition) -> list[float]:
    given = [condition.typ, condition.min, condition.max]
    return list(dict.fromkeys(value for value in given if value is not None))


def _supplies(cell: Cell) -> list[tuple[float, float]]:
    """(vdd, vss) at the typical, the smallest and the largest total supply."""
    conditions = cell.contract.conditions
    if "vdd" not in conditions:
        rails = [rail for rail in ("vdd", "vss") if rail in cell.contract.pins]
        if rails:
            raise SpecError(
                f"{cell.source}: conditions.vdd: missing; the cell has the pin {rails[0]!r}, so add its supply, as in "
                'vdd = { min = 1.62, typ = 1.8, max = 1.98, unit = "V" } (vss is 0 V unless given)'
            )
        return [(0.0, 0.0)]
    vdd, vss = conditions["vdd"], conditions.get("vss", Condition(typ=0.0, unit="V"))
    pairs = [(vdd.typ, vss.typ)]
    if vdd.min is not None:
        pairs.append((vdd.min, vss.typ if vss.max is None else vss.max))
    if vdd.max is not None:
        pairs.append((vdd.max, vss.typ if vss.min is None else vss.min))
    return list(dict.fromkeys(pairs))
