"""Cell contracts: a `.toml` beside a `.cir` that says what each pin and parameter means, checked against the netlist.

Pins are matched by name, never by position, so a netlist may list them in any order. Nothing the contract says is
believed before the netlist agrees: pins, parameters and defaults are compared when the pair is read.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.contract_schema import ROLES as ROLES
from analog_deq.netlists.contract_schema import CellContract as CellContract
from analog_deq.netlists.contract_schema import check_contract
from analog_deq.netlists.header import SubcktHeader, logical_lines, read_header
from analog_deq.netlists.includes import read_netlist
from analog_deq.netlists.screen import screen_netlist
from analog_deq.spec import read_toml, validate

_INSTANCE = re.compile(r"[xX][\w.]+\Z")
_NODE = re.compile(r"[\w.]+\Z")
_FILE_NAME = re.compile(r"(?!deck\.)\w[\w-]*\.(cir|sp|spice|sub|net)\Z")


@dataclass(frozen=True, slots=True)
class Cell:
    """A contract and its screened netlist, ready to be instantiated. ``netlist`` has its includes written in."""

    contract: CellContract
    netlist: str
    header: SubcktHeader
    sha256: str
    source: str

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
    def mismatch_sigmas(self) -> dict[str, float]:
        """Standard deviation of each mismatch parameter, in the parameter's own unit (1 for relative ones)."""
        return {name: m.sigma for name, m in self.contract.mismatch.params.items()}

    def instance(self, name: str, nodes: Mapping[str, str], params: Mapping[str, float] | None = None) -> str:
        """``X`` line of one instance: ``nodes`` maps role pins to nodes, ``params`` (SI) overrides defaults.

        Raises NetlistError for a name not starting with X, a missing or unknown role pin, a node name with
        blanks, an unknown parameter, or a value that is NaN or outside the contract's range.

        >>> from analog_deq.netlists.library import load_cell
        >>> load_cell("resistor_synapse").instance("X1", {"row": "r1", "col": "s1"}, {"g": 2e-5})
        'X1 r1 s1 resistor_synapse g=2e-05'
        """
        if _INSTANCE.match(name) is None:
            raise NetlistError(
                f"{self.source}: instance name {name!r} is not X followed by letters or digits; rename it"
            )
        roles = ROLES[self.role]
        if nodes.keys() != set(roles):
            missing = [p for p in roles if p not in nodes]
            unknown = [p for p in nodes if p not in roles]
            problem = f"has no node for pin {missing[0]!r}" if missing else f"names the unknown pin {unknown[0]!r}"
            raise NetlistError(f"{self.source}: instance {name} {problem}; a {self.role} has {', '.join(roles)}")
        by_pin = {self.contract.pins[role].lower(): nodes[role] for role in roles}
        for pin, target in self.contract.tie.items():
            if target != "0" and target not in nodes:
                raise NetlistError(
                    f"{self.source}: tie.{pin} = {target!r}, but a {self.role} has no such pin; tie it to '0'"
                )
            by_pin[pin.lower()] = "0" if target == "0" else nodes[target]
        ordered = [by_pin[pin] for pin in self.header.pins]
        for node in ordered:
            if _NODE.match(node) is None:
                raise NetlistError(
                    f"{self.source}: instance {name}: {node!r} is no node name; use letters, digits, _ and ."
                )
        values = [self._parameter(name, key, value) for key, value in (params or {}).items()]
        return " ".join([name, *ordered, self.header.name, *values])

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


def read_contract(path: Path) -> Cell:
    """Cell of the contract at ``path``: checked, its netlist read from the same folder, screened and compared.

    Raises SpecError (file, key, value, mend) when the contract is wrong or disagrees with the netlist, and
    NetlistError (file, line, mend) when the netlist is malformed or unsafe.
    """
    contract = validate(CellContract, read_toml(path), path)
    file_name = contract.cell.netlist
    if _FILE_NAME.match(file_name) is None:
        raise SpecError(f"{path}: cell.netlist = {file_name!r}: must be a .cir file beside the contract (not deck.cir)")
    netlist = read_netlist(path.parent / file_name, path.parent, path)
    screen_netlist(netlist, str(path.parent / file_name))
    header = read_header(netlist, source=str(path.parent / file_name))
    check_contract(contract, header, path)
    _refuse_supplies(netlist, contract, path.parent / file_name)
    digest = hashlib.sha256(path.read_bytes() + b"\0" + netlist.encode()).hexdigest()
    return Cell(contract, netlist, header, digest, str(path))


def _refuse_supplies(netlist: str, contract: CellContract, path: Path) -> None:
    rails = {contract.pins[p].lower() for p in ("vdd", "vss") if p in contract.pins}
    for line in logical_lines(netlist, str(path)):
        words = line.text.lower().split()
        if words[0][0] == "v" and set(words[1:3]) <= rails | {"0"} and set(words[1:3]) & rails:
            raise NetlistError(f"{path}: {line.raw!r} is a supply; the deck sets the rails, remove it")
