"""One neuron: leaky integrator, activation stage and differential driver.

The integrator turns the current entering the virtual ground ``s`` into v = -R_F i, the activation turns v into
a differential voltage and the driver sends it to the rows zp (+) and zn (-). The activation is wired with its
outputs crossed, so that z rises with h = -v / v_unit although the integrator inverts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PySpice.Spice.Netlist import Circuit

from analog_deq.errors import SpecError
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines, load_cell
from analog_deq.spec import Cells, Neuron

SLOTS: Mapping[str, tuple[str, ...]] = {
    "opamp": ("opamp", "ota"),
    "integrator": ("integrator", "summer"),
    "activation": ("activation",),
    "driver": ("driver",),
    "synapse": ("synapse",),
}
"""Roles that fit each slot of a design's ``[cells]``. An op-amp or OTA gets R_F || C_F around it, a summer C_F."""


@dataclass(frozen=True, slots=True)
class NeuronCells:
    """The cells a network is made of; ``synapse`` sits in the crossbar. There is an op-amp or an integrator."""

    opamp: Cell | None
    activation: Cell
    driver: Cell
    synapse: Cell
    integrator: Cell | None = None

    @property
    def named(self) -> dict[str, Cell]:
        """The cells in use, by slot."""
        return {slot: getattr(self, slot) for slot in SLOTS if getattr(self, slot) is not None}

    @property
    def neuron(self) -> dict[str, Cell]:
        """The cells of one neuron, by slot."""
        return {slot: cell for slot, cell in self.named.items() if slot != "synapse"}

    @property
    def passives(self) -> tuple[str, ...]:
        """Feedback parts outside the cells, whose mismatch is drawn beside theirs."""
        if self.integrator is None:
            return ("r_feedback", "c_feedback")
        return ("c_feedback",) if self.integrator.role == "summer" else ()

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(relative name, text) of every netlist a deck must include, each once, in a fixed order."""
        return cell_files(list(self.named.values()))

    @property
    def includes(self) -> list[str]:
        """The lines that include :attr:`files`."""
        return include_lines(list(self.named.values()))

    @property
    def arguments(self) -> tuple[str, ...]:
        """Definitions ngspice is started with for the cells' models."""
        return cell_arguments(list(self.named.values()))

    def mismatch(self) -> dict[str, float]:
        """Standard deviation of each mismatch parameter of a neuron's cells, keyed ``slot.parameter``."""
        return {
            f"{slot}.{name}": sigma
            for slot, cell in self.neuron.items()
            for name, sigma in sorted(cell.mismatch_sigmas.items())
        }

    @property
    def relative_spread(self) -> bool:
        """Whether the synapse's only error, if it has one, is a fixed share of its conductance."""
        params = self.synapse.contract.mismatch.params
        return all(name == "dg" and m.relative and m.sigma is not None for name, m in params.items())

    @property
    def not_modelled(self) -> dict[str, str]:
        """What the contracts say the cells leave out: ``noise`` or ``mismatch`` -> which cells, and how."""
        noises = {slot: cell.contract.noise for slot, cell in self.named.items()}
        silent = [f"{slot} {self.named[slot].name!r}" for slot, noise in noises.items() if not noise.native]
        equal = [
            f"{slot} {cell.name!r} (mode {cell.contract.mismatch.mode!r})"
            for slot, cell in self.named.items()
            if not cell.contract.mismatch.params
        ]
        read = [
            f"{slot} {self.named[slot].name!r}"
            for slot, noise in noises.items()
            if noise.native and noise.extra is not None and noise.extra.sigma > 0
        ]
        parts = {
            "noise": ((silent, "carries no noise"), (read, "has read noise outside its netlist")),
            "mismatch": ((equal, "gives no mismatch to draw"),),
        }
        found = {
            key: "; ".join(f"{', '.join(names)} {what}" for names, what in pairs if names)
            for key, pairs in parts.items()
        }
        return {key: text for key, text in found.items() if text}


def choose_cells(cells: Cells, overrides: Mapping[str, str]) -> Cells:
    """``cells`` with ``overrides`` (slot or role -> name or path of a cell.toml). SpecError for one that fits no slot.

    An op-amp named here takes the place of the design's integrator, and the other way round.
    """
    chosen: dict[str, str] = {}
    for key, name in overrides.items():
        slots = [slot for slot, roles in SLOTS.items() if key == slot or key in roles]
        if not slots:
            known = dict.fromkeys(word for slot, roles in SLOTS.items() for word in (slot, *roles))
            raise SpecError(f"--cell {key}={name}: no such role; roles are {', '.join(known)}")
        if slots[0] in chosen:
            raise SpecError(f"--cell {key}={name}: the slot {slots[0]!r} is given twice; keep one")
        chosen[slots[0]] = name
    if {"opamp", "integrator"} <= set(chosen):
        raise SpecError(f"--cell integrator={chosen['integrator']}: takes the place of an op-amp; drop one of the two")
    kept = {"integrator": None} if "opamp" in chosen else {}
    return cells.model_copy(update={**kept, **chosen})


def load_cells(cells: Cells, overrides: Mapping[str, str] | None = None, source: str = "cells") -> NeuronCells:
    """Cells named by a design and by ``overrides`` (see :func:`choose_cells`); no op-amp beside an integrator.

    ``source`` says in messages where the names were written.
    """
    cells = choose_cells(cells, overrides or {})
    loaded: dict[str, Any] = dict.fromkeys(SLOTS)
    for slot, name in cells.model_dump().items():
        if name is None or (slot == "opamp" and cells.integrator is not None):
            continue
        try:
            cell = load_cell(name)
        except SpecError as error:
            raise SpecError(f"{source}.{slot}: {error}") from error
        if cell.role not in SLOTS[slot]:
            raise SpecError(
                f"{source}.{slot} = {name!r}: that cell's role is {cell.role!r}; name a cell of role "
                + " or ".join(map(repr, SLOTS[slot]))
            )
        loaded[slot] = cell
    return NeuronCells(**loaded)


@dataclass(frozen=True, slots=True)
class NeuronNodes:
    """Node names of one neuron."""

    summing: str
    output: str
    z_pos: str
    z_neg: str
    vdd: str = "vdd"
    vss: str = "vss"

    @classmethod
    def numbered(cls, tag: object, vdd: str = "vdd", vss: str = "vss") -> NeuronNodes:
        return cls(f"s{tag}", f"v{tag}", f"zp{tag}", f"zn{tag}", vdd, vss)


def add_integrator(
    circuit: Circuit,
    tag: object,
    nodes: NeuronNodes,
    neuron: Neuron,
    cells: NeuronCells,
    deviations: Mapping[str, float],
) -> None:
    """Leaky integrator, and C_IN at its summing node: an integrator cell, a summer with C_F across it, or an op-amp
    with R_F || C_F from its output to the summing node.

    With an op-amp tau = R_F C_F + (1 + R_F G_t) / (2 pi GBW) and the DC gain is -R_F / (1 + (1 + R_F G_t) / A0) for a
    load G_t at the summing node. ``deviations`` holds relative errors of the passives and the cell's parameters.
    """
    for name, add, value in (
        ("r_feedback", circuit.R, neuron.r_feedback_ohm), ("c_feedback", circuit.C, neuron.c_feedback_f),
    ):  # fmt: skip
        if name in cells.passives:
            add(f"f{tag}", nodes.summing, nodes.output, value * (1 + deviations.get(name, 0.0)))
    if neuron.c_input_f > 0:
        circuit.C(f"i{tag}", nodes.summing, "0", neuron.c_input_f)
    pins = {"out": nodes.output, "vdd": nodes.vdd, "vss": nodes.vss}
    if cells.opamp is not None:
        pins |= {"in_p": "0", "in_n": nodes.summing}
        circuit.raw_spice += cells.opamp.instance(f"Xo{tag}", pins, _of(deviations, "opamp")) + "\n"
    if cells.integrator is not None:
        pins |= {"in": nodes.summing, "ref": "0"}
        circuit.raw_spice += cells.integrator.instance(f"Xo{tag}", pins, _of(deviations, "integrator")) + "\n"


def add_activation(
    circuit: Circuit, tag: object, nodes: NeuronNodes, activation: Cell, deviations: Mapping[str, float]
) -> None:
    """Activation stage from the integrator's output to ap, an."""
    pins = {"in": nodes.output, "out_p": f"ap{tag}", "out_n": f"an{tag}", "vdd": nodes.vdd, "vss": nodes.vss}
    circuit.raw_spice += activation.instance(f"Xa{tag}", pins, _of(deviations, "activation")) + "\n"


def add_driver(
    circuit: Circuit, tag: object, nodes: NeuronNodes, cells: NeuronCells, deviations: Mapping[str, float]
) -> None:
    """Driver from the activation's outputs, crossed, to the two row lines. An activation with one output drives it
    single-ended: the other input is at ground.
    """
    negative = f"an{tag}" if "out_n" in cells.activation.contract.pins else "0"
    pins = {
        "in_p": negative, "in_n": f"ap{tag}", "out_p": nodes.z_pos, "out_n": nodes.z_neg,
        "vdd": nodes.vdd, "vss": nodes.vss,
    }  # fmt: skip
    circuit.raw_spice += cells.driver.instance(f"Xd{tag}", pins, _of(deviations, "driver")) + "\n"


def add_neuron(
    circuit: Circuit,
    tag: object,
    nodes: NeuronNodes,
    neuron: Neuron,
    cells: NeuronCells,
    deviations: Mapping[str, float] | None = None,
) -> None:
    """Integrator, activation and driver of one neuron, with its mismatch ``deviations`` (default none)."""
    deviations = deviations or {}
    add_integrator(circuit, tag, nodes, neuron, cells, deviations)
    add_activation(circuit, tag, nodes, cells.activation, deviations)
    add_driver(circuit, tag, nodes, cells, deviations)


def circuit_lines(circuit: Circuit) -> list[str]:
    """Element lines of a PySpice circuit, without its title card."""
    return [line for line in str(circuit).splitlines() if line.strip() and not line.startswith(".title")]


def _of(deviations: Mapping[str, float], role: str) -> dict[str, float]:
    prefix = f"{role}."
    return {key.removeprefix(prefix): value for key, value in deviations.items() if key.startswith(prefix)}
