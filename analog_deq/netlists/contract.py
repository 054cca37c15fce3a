"""Cell contracts: a `.toml` beside a `.cir` that says what each pin and parameter means, checked against the netlist.

Pins are matched by name, never by position, so a netlist may list them in any order. Nothing the contract says is
believed before the netlist agrees: pins, parameters and defaults are compared when the pair is read.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.cell import Cell as Cell
from analog_deq.netlists.contract_check import check_contract
from analog_deq.netlists.contract_schema import ROLES as ROLES
from analog_deq.netlists.contract_schema import CellContract as CellContract
from analog_deq.netlists.devices import device_names
from analog_deq.netlists.header import logical_lines, read_header
from analog_deq.netlists.includes import read_netlist
from analog_deq.netlists.model_library import library_root, resolve_library
from analog_deq.netlists.models import prune_library
from analog_deq.spec import read_toml, validate

FILE_NAME = re.compile(r"(?!deck\.)\w[\w-]*\.(cir|sp|spice|sub|net)\Z")
"""Names that the netlist of a cell may have."""


def read_contract(path: Path) -> Cell:
    """Cell of the contract at ``path``: checked, its netlist read from the same folder, screened and compared.

    Raises SpecError (file, key, value, mend) when the contract is wrong or disagrees with the netlist, and
    NetlistError (file, line, mend) when the netlist is malformed or unsafe. Its hash covers contract, netlist and the
    models of every process corner.
    """
    contract = validate(CellContract, read_toml(path), path)
    file_name = contract.cell.netlist
    if FILE_NAME.match(file_name) is None:
        raise SpecError(f"{path}: cell.netlist = {file_name!r}: must be a .cir file beside the contract (not deck.cir)")
    netlist = read_netlist(path.parent / file_name, path.parent, path, contract.cell.subckt)
    header = read_header(netlist, source=str(path.parent / file_name))
    check_contract(contract, header, path)
    _refuse_supplies(netlist, contract, path.parent / file_name)
    digest = hashlib.sha256(path.read_bytes() + b"\0" + netlist.encode())
    if contract.models is not None:
        library, root = (
            resolve_library(contract.models.lib, path.parent),
            library_root(contract.models.lib, path.parent),
        )
        for name in sorted({corner.section or "" for corner in contract.corners.values()}):
            digest.update(prune_library(library, name, device_names(netlist), root=root).sha256.encode())
    return Cell(contract, netlist, header, digest.hexdigest(), str(path))


def _refuse_supplies(netlist: str, contract: CellContract, path: Path) -> None:
    rails = {contract.pins[p].lower() for p in ("vdd", "vss") if p in contract.pins}
    for line in logical_lines(netlist, str(path)):
        words = line.text.lower().split()
        if words[0][0] == "v" and set(words[1:3]) <= rails | {"0"} and set(words[1:3]) & rails:
            raise NetlistError(f"{path}: {line.raw!r} is a supply; the deck sets the rails, remove it")
