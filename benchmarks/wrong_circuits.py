"""Circuits that a design's proxy is wrong about: a shipped design on cells and conditions its proxy was not fitted to.

Cells are shipped ones with other defaults under the same contract, written as files beside the design that names them,
so that every command takes them. ``worst_*`` are worst corners of shipped transistor cells; ``harsh_*`` go beyond.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analog_deq.resources import shipped
from analog_deq.spec import read_plan

Edits = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Derived:
    """A shipped cell whose parameters default to ``params``, and whose every offset ``vos`` is ``offset_v`` higher.

    An offset of all instances alike goes into the netlist: the parameter is the mismatch of one instance, else 0.
    ``sigmas`` replace the spreads of its mismatch parameters.
    """

    cell: str
    params: Edits = field(default_factory=dict)
    offset_v: float = 0.0
    sigmas: Edits = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """The cell as ``folder/<cell>.toml`` and ``.cir``; ValueError when there is nothing to change by that name."""
        source = shipped("netlists/cells")
        contract, netlist = ((source / f"{self.cell}{end}").read_text() for end in (".toml", ".cir"))
        for name, value in self.params.items():
            contract = _once(rf"(\[params\.{name}\][^\[]*?\ndefault = )\S+", rf"\g<1>{value}", contract)
            netlist = _once(rf"(\.subckt [^\n]* {name}=)\S+", rf"\g<1>{value}", netlist)
        for name, value in self.sigmas.items():
            contract = _once(rf"(\[mismatch\.params\.{name}\][^\[]*?\nsigma = )\S+", rf"\g<1>{value}", contract)
        if self.offset_v:
            netlist = _once(r"\{vos\}", f"{{vos+{self.offset_v}}}", netlist)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.cell}.cir").write_text(netlist)
        path = folder / f"{self.cell}.toml"
        path.write_text(contract)
        return path


@dataclass(frozen=True, slots=True)
class WrongCircuit:
    """What is moved, in words, and the cells and conditions that move it; None leaves the design's own."""

    what: str
    opamp: Derived | None = None
    activation: Derived | None = None
    operating: Edits = field(default_factory=dict)


SLOW = {"dvtn": "0.05", "kn": "0.9"}
SLOW_BOTH = SLOW | {"dvtp": "0.05", "kp": "0.9"}
HOT_LOW = {"temperature_celsius": "125.0", "vdd_v": "0.81", "vss_v": "-0.81"}
OFFSET_V, HARSH_OFFSET_V = 3e-3, 5e-3
HARSH_GAIN, HARSH_LOAD_OHM = "200.0", "3.5e3"
HARSH_PAIR = Derived("diffpair", SLOW | {"rl": HARSH_LOAD_OHM})

CIRCUITS: Mapping[str, WrongCircuit] = {
    "nominal": WrongCircuit("the circuit that the proxy was fitted to"),
    "worst_gain": WrongCircuit("opamp_2stage, slow process", opamp=Derived("opamp_2stage", SLOW_BOTH)),
    "worst_offset": WrongCircuit(
        "3 mV in every op-amp alike, 3 sigma of one", opamp=Derived("opamp_macro", offset_v=OFFSET_V)
    ),
    "worst_sigma": WrongCircuit(
        "diffpair, slow, 125 C, 0.81 V", activation=Derived("diffpair", SLOW), operating=HOT_LOW
    ),
    "worst_all": WrongCircuit(
        "opamp_2stage slow with 3 mV, diffpair slow, 125 C, 0.81 V", Derived("opamp_2stage", SLOW_BOTH, OFFSET_V),
        Derived("diffpair", SLOW), HOT_LOW,
    ),
    "harsh_gain": WrongCircuit("op-amps of gain 200 for 10,000", opamp=Derived("opamp_macro", {"a0": HARSH_GAIN})),
    "harsh_offset": WrongCircuit(
        "5 mV in every op-amp alike, 5 sigma of one", opamp=Derived("opamp_macro", offset_v=HARSH_OFFSET_V)
    ),
    "harsh_sigma": WrongCircuit(
        "worst_sigma with loads of 3.5 kohm for 5: ends at 0.7", activation=HARSH_PAIR, operating=HOT_LOW
    ),
    "harsh_all": WrongCircuit(
        "gain 200, 5 mV and harsh_sigma", Derived("opamp_macro", {"a0": HARSH_GAIN}, HARSH_OFFSET_V), HARSH_PAIR,
        HOT_LOW,
    ),
}  # fmt: skip


def write_design(base: str, circuit: WrongCircuit, seed: int, folder: Path, loosened: float = 1.0) -> Path:
    """``folder/<base>.toml``: the shipped design with the circuit's cells and conditions, its seed raised by ``seed``.

    A design that counts instances of its task takes instance ``seed``. With ``loosened`` it names a plan of its own,
    whose tolerances of the fit are that many times the shipped plan's.
    """
    text = (shipped("data/designs") / f"{base}.toml").read_text()
    text = re.sub(r"(?m)^seed = (\d+)", lambda found: f"seed = {int(found[1]) + seed}", text)
    text = re.sub(r"(?m)^instance = \d+", f"instance = {seed}", text)
    for slot, cell in (("opamp", circuit.opamp), ("activation", circuit.activation)):
        if cell is not None:
            written = cell.write(folder / "cells").relative_to(folder)
            text = _once(rf'(?m)^({slot} = )"\w+"', rf'\g<1>"{written}"', text)
    for key, value in circuit.operating.items():
        text = _once(rf"(?m)^({key} = )\S+", rf"\g<1>{value}", text)
    folder.mkdir(parents=True, exist_ok=True)
    if loosened != 1.0:
        plan = re.findall(r'(?m)^plan = "(\w+)"', text)[0]
        (folder / f"{plan}.toml").write_text(_loosened_plan(plan, loosened))
        text = _once(r"(?m)^plan = .*", f'plan = "{plan}.toml"', text)
    path = folder / f"{base}.toml"
    path.write_text(text)
    return path


def _loosened_plan(plan: str, factor: float) -> str:
    source = shipped("calibration/plans") / f"{plan}.toml"
    head = _once(r"(?m)^design = .*\n", "", source.read_text().split("[tolerances]\n")[0])
    wider = (f"{name} = {factor * value!r}\n" for name, value in read_plan(source).tolerances.model_dump().items())
    return f"{head}[tolerances]\n{''.join(wider)}"


def _once(pattern: str, new: str, text: str) -> str:
    changed, count = re.subn(pattern, new, text, count=1)
    if not count:
        raise ValueError(f"nothing matches {pattern!r}")
    return changed
