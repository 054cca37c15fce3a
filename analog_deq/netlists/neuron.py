"""One neuron: op-amp leaky integrator, activation stage and differential driver.

The integrator turns the current entering the virtual ground ``s`` into v = -R_F i, the activation turns v into
a differential voltage and the driver sends it to the rows zp (+) and zn (-). The activation is wired with its
outputs crossed, so that z rises with h = -v / v_unit although the integrator inverts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from PySpice.Spice.Netlist import Circuit

from analog_deq.errors import SpecError
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.spec import Cells, Neuron

ROLES = ("opamp", "activation", "driver")


@dataclass(frozen=True, slots=True)
class NeuronCells:
    """The cells a network is made of; ``synapse`` sits in the crossbar."""

    opamp: Cell
    activation: Cell
    driver: Cell
    synapse: Cell

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(relative name, text) of every netlist a deck must include, each once, in a fixed order."""
        return tuple(sorted({self.opamp.file, self.activation.file, self.driver.file, self.synapse.file}))

    @property
    def includes(self) -> list[str]:
        """The ``.include`` lines for :attr:`files`."""
        return [f".include {name}" for name, _ in self.files]

    def mismatch(self) -> dict[str, float]:
        """Standard deviation of each mismatch parameter of a neuron's cells, keyed ``role.parameter``."""
        return {
            f"{role}.{name}": sigma
            for role in ROLES
            for name, sigma in sorted(getattr(self, role).mismatch_sigmas.items())
        }


def load_cells(cells: Cells, overrides: Mapping[str, str] | None = None, source: str = "cells") -> NeuronCells:
    """Cells named by a design, each role replaceable by ``overrides`` (role -> name or path of a cell.toml).

    ``source`` says in messages where the names were written.
    """
    names = {**cells.model_dump(), **(overrides or {})}
    loaded = {}
    for role, name in names.items():
        if role not in Cells.model_fields:
            raise SpecError(f"--cell {role}={name}: no such role; roles are {', '.join(Cells.model_fields)}")
        try:
            cell = load_cell(name)
        except SpecError as error:
            raise SpecError(f"{source}.{role}: {error}") from error
        if cell.role != role:
            raise SpecError(
                f"{source}.{role} = {name!r}: that cell's role is {cell.role!r}; name a cell of role {role!r}"
            )
        loaded[role] = cell
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
    opamp: Cell,
    deviations: Mapping[str, float],
) -> None:
    """Leaky integrator: op-amp with R_F || C_F from output to summing node, C_IN at the summing node.

    tau = R_F C_F + (1 + R_F G_t) / (2 pi GBW) and DC gain -R_F / (1 + (1 + R_F G_t) / A0) for a load G_t at the
    summing node. ``deviations`` holds relative errors ``r_feedback``, ``c_feedback`` and ``opamp.*`` parameters.
    """
    circuit.R(f"f{tag}", nodes.summing, nodes.output, neuron.r_feedback_ohm * (1 + deviations.get("r_feedback", 0.0)))
    circuit.C(f"f{tag}", nodes.summing, nodes.output, neuron.c_feedback_f * (1 + deviations.get("c_feedback", 0.0)))
    if neuron.c_input_f > 0:
        circuit.C(f"i{tag}", nodes.summing, "0", neuron.c_input_f)
    pins = {"in_p": "0", "in_n": nodes.summing, "out": nodes.output, "vdd": nodes.vdd, "vss": nodes.vss}
    circuit.raw_spice += opamp.instance(f"Xo{tag}", pins, _of(deviations, "opamp")) + "\n"


def add_activation(
    circuit: Circuit,
    tag: object,
    nodes: NeuronNodes,
    activation: Cell,
    driver: Cell,
    deviations: Mapping[str, float],
) -> None:
    """Activation stage and driver from the integrator's output to the two row lines, outputs crossed."""
    a_pos, a_neg = f"ap{tag}", f"an{tag}"
    pins = {"in": nodes.output, "out_p": a_pos, "out_n": a_neg, "vdd": nodes.vdd, "vss": nodes.vss}
    circuit.raw_spice += activation.instance(f"Xa{tag}", pins, _of(deviations, "activation")) + "\n"
    pins = {
        "in_p": a_neg, "in_n": a_pos, "out_p": nodes.z_pos, "out_n": nodes.z_neg, "vdd": nodes.vdd, "vss": nodes.vss,
    }  # fmt: skip
    circuit.raw_spice += driver.instance(f"Xd{tag}", pins, _of(deviations, "driver")) + "\n"


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
    add_integrator(circuit, tag, nodes, neuron, cells.opamp, deviations)
    add_activation(circuit, tag, nodes, cells.activation, cells.driver, deviations)


def circuit_lines(circuit: Circuit) -> list[str]:
    """Element lines of a PySpice circuit, without its title card."""
    return [line for line in str(circuit).splitlines() if line.strip() and not line.startswith(".title")]


def _of(deviations: Mapping[str, float], role: str) -> dict[str, float]:
    prefix = f"{role}."
    return {key.removeprefix(prefix): value for key, value in deviations.items() if key.startswith(prefix)}
