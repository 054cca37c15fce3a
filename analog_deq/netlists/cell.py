"""A cell: its contract and netlist, bound to a process corner, ready to be instantiated in a deck."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.contract_schema import ROLES, TEMPERATURE_PARAMS, CellContract, ProcessCorner, Tie
from analog_deq.netlists.deck import number
from analog_deq.netlists.header import SubcktHeader

_INSTANCE = re.compile(r"[xX][\w.]+\Z")
_NODE = re.compile(r"[\w.]+\Z")


@dataclass(frozen=True, slots=True)
class Cell:
    """A contract and its screened netlist, at one process corner. ``netlist`` has its includes written in.

    ``process`` is a name of :attr:`processes`; ``mismatch_section`` turns the model library's own mismatch on.
    """

    contract: CellContract
    netlist: str
    header: SubcktHeader
    sha256: str
    source: str
    process: str = ""
    mismatch_section: bool = False

    @property
    def name(self) -> str:
        """Name of the cell."""
        return self.contract.cell.name

    @property
    def role(self) -> str:
        """Role of the cell, a key of :data:`ROLES`."""
        return self.contract.cell.role

    @property
    def file(self) -> tuple[str, str]:
        """(relative file name, content), as ``Deck.files`` takes it."""
        return self.contract.cell.netlist, self.netlist

    @property
    def include_line(self) -> str:
        """Line that brings the cell into a deck holding :attr:`file`."""
        return f".include {self.contract.cell.netlist}"

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of the process corners, the typical one first: ``tt`` when the contract has it, else its first."""
        names = tuple(self.contract.corners)
        typical = "tt" if "tt" in names or not names else names[0]
        return (typical, *(name for name in names if name != typical))

    @property
    def corner(self) -> ProcessCorner:
        """The process corner the cell is at."""
        return self.contract.corners.get(self.process or self.processes[0], ProcessCorner())

    @property
    def section(self) -> str:
        """Section of the model library that this cell at this corner is built on; empty without a library."""
        section = self.corner.section or ""
        drawn = self.mismatch_section and self.contract.mismatch.mode == "section"
        return section + (self.contract.mismatch.suffix if drawn else "")

    @property
    def library_overrides(self) -> dict[str, float]:
        """Global parameters of the model library that this cell sets: its mismatch switch."""
        switch = self.contract.mismatch.switch
        return {} if switch is None else {switch.param: switch.on if self.mismatch_section else switch.off}

    def at(self, process: str, *, mismatch_section: bool = False) -> Cell:
        """The same cell at a process corner. SpecError, naming the known ones, when there is none of that name.

        With ``mismatch_section`` each instance's devices are drawn by the model library, from ngspice's own seed.
        """
        if process not in self.processes:
            raise SpecError(f"{self.source}: no process corner {process!r}; the cell has {', '.join(self.processes)}")
        if mismatch_section and self.contract.mismatch.mode not in {"section", "switch"}:
            raise SpecError(
                f"{self.source}: mismatch.mode = {self.contract.mismatch.mode!r}: no library mismatch to use"
            )
        return replace(self, process=process, mismatch_section=mismatch_section)

    @property
    def mismatch_sigmas(self) -> dict[str, float]:
        """Standard deviation of each mismatch parameter, in the parameter's own unit (1 for relative ones).

        Of a parameter that depends on the state: its largest. :meth:`sigma` has the value at a state.
        """
        return {
            name: m.sigma if m.sigma is not None else m.largest for name, m in self.contract.mismatch.params.items()
        }

    def sigma(self, name: str, state: float | np.ndarray = math.nan) -> np.ndarray:
        """Standard deviation of mismatch parameter ``name`` of cells programmed to ``state``; shape of ``state``."""
        top = self.contract.state["g"].max if "g" in self.contract.state else 1.0
        return self.contract.mismatch.params[name].sigma_at(np.asarray(state) / top)

    def instance(self, name: str, nodes: Mapping[str, str], params: Mapping[str, float] | None = None) -> str:
        """``X`` line of one instance, then a line for each source that ties a pin.

        ``nodes`` maps role pins to nodes (those the cell lacks are left out), ``params`` (SI) overrides defaults and
        the process corner's; a law of temperature goes into tc1 and tc2. Raises NetlistError for a name not starting
        with X, a missing or unknown role pin, a node name with blanks, an unknown parameter, or a value that is NaN or
        outside the contract's range.

        >>> from analog_deq.netlists.library import load_cell
        >>> load_cell("resistor_synapse").instance("X1", {"row": "r1", "col": "s1"}, {"g": 2e-5})
        'X1 r1 s1 resistor_synapse g=2e-05'
        """
        if _INSTANCE.match(name) is None:
            raise NetlistError(
                f"{self.source}: instance name {name!r} is not X followed by letters or digits; rename it"
            )
        roles = ROLES[self.role]
        missing = [p for p in self.contract.pins if p not in nodes]
        unknown = [p for p in nodes if p not in roles]
        if missing or unknown:
            problem = f"has no node for pin {missing[0]!r}" if missing else f"names the unknown pin {unknown[0]!r}"
            raise NetlistError(f"{self.source}: instance {name} {problem}; a {self.role} has {', '.join(roles)}")
        by_pin = {pin.lower(): nodes[role] for role, pin in self.contract.pins.items()}
        ties = []
        for pin, tie in self.contract.tie.items():
            if tie.origin != "0" and tie.origin not in nodes:
                raise NetlistError(
                    f"{self.source}: tie.{pin} goes to {tie.origin!r}; instance {name} has no node for it"
                )
            node = "0" if tie.origin == "0" else nodes[tie.origin]
            if tie.source != "wire":
                target = f"{name}_{pin.lower()}"
                ties.append(_tie_line(target, tie, node, target))
                node = target
            by_pin[pin.lower()] = node
        ordered = [by_pin[pin] for pin in self.header.pins]
        for node in ordered:
            if _NODE.match(node) is None:
                raise NetlistError(
                    f"{self.source}: instance {name}: {node!r} is no node name; use letters, digits, _ and ."
                )
        law = self.contract.temperature
        warm = {} if law is None else dict(zip(TEMPERATURE_PARAMS, law.at_nominal, strict=True))
        given = {**warm, **self.corner.params, **(params or {})}
        values = [self._parameter(name, key, value) for key, value in given.items()]
        return "\n".join([" ".join([name, *ordered, self.header.name, *values]), *ties])

    def _parameter(self, instance: str, key: str, value: float) -> str:
        spec = self.contract.params.get(key)
        where = f"{self.source}: instance {instance}"
        if spec is None:
            known = ", ".join(self.contract.params) or "none"
            raise NetlistError(f"{where}: {key!r} is no parameter of {self.name}; it has {known}")
        value = float(value)
        if not (math.isfinite(value) and spec.min <= value <= spec.max):
            raise NetlistError(
                f"{where}: {key} = {value!r} is outside [{spec.min!r}, {spec.max!r}] {spec.unit}; mend it"
            )
        return f"{key}={value!r}"


def _tie_line(name: str, tie: Tie, origin: str, target: str) -> str:
    if tie.source == "current":
        return f"I{name} {origin} {target} {number(tie.value)}"
    return f"V{name} {target} {origin} {number(tie.value)}"
