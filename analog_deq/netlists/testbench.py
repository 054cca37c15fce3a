"""Testbenches: many independent copies of one neuron, or of a synapse, in a single deck.

Copies share the time step but no node other than ground and their drive, so one short ngspice process
measures a whole block of loads, steps or mismatch dies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PySpice.Spice.Netlist import Circuit

from analog_deq.netlists.crossbar import synapse_instance
from analog_deq.netlists.deck import number
from analog_deq.netlists.library import include_lines
from analog_deq.netlists.neuron import (
    NeuronCells,
    NeuronNodes,
    add_activation,
    add_driver,
    add_integrator,
    add_neuron,
    circuit_lines,
)
from analog_deq.spec import Neuron, Operating


@dataclass(frozen=True, slots=True)
class NeuronCopy:
    """One copy: its load at the summing node, load at each driver output, drive node and mismatch."""

    load_siemens: float
    driver_load_siemens: float = 0.0
    drive: str = "x"
    deviations: Mapping[str, float] = field(default_factory=dict)


def neuron_bench(
    copies: Sequence[NeuronCopy],
    drives: Sequence[str],
    neuron: Neuron,
    operating: Operating,
    cells: NeuronCells,
) -> list[str]:
    """Lines of a testbench: copy k has nodes s{k} v{k} zp{k} zn{k} and supplies Vdd{k} Vss{k} of its own.

    A drive of V volts pushes V / R_F into the summing node through a noiseless transconductor, so that h = V /
    v_unit for an ideal integrator. ``drives`` are the source lines that define the drive nodes.
    """
    circuit = Circuit("neuron_bench")
    harness = list(drives)  # as text: blocks of hundreds of copies spend their building time here
    vdd, vss, gm = number(operating.vdd_v), number(operating.vss_v), number(1 / neuron.r_feedback_ohm)
    for k, copy in enumerate(copies):
        nodes = NeuronNodes.numbered(k, vdd=f"vdd{k}", vss=f"vss{k}")
        harness += [
            f"Vdd{k} {nodes.vdd} 0 {vdd}",
            f"Vss{k} {nodes.vss} 0 {vss}",
            f"Gin{k} 0 {nodes.summing} {copy.drive} 0 {gm}",
            f"Rl{k} {nodes.summing} 0 {number(1 / copy.load_siemens)}",
        ]
        if copy.driver_load_siemens > 0:
            load = number(1 / copy.driver_load_siemens)
            harness += [f"Rp{k} {nodes.z_pos} 0 {load}", f"Rn{k} {nodes.z_neg} 0 {load}"]
        add_neuron(circuit, k, nodes, neuron, cells, copy.deviations)
    return [*cells.includes, *harness, *circuit_lines(circuit)]


def copy_vectors(copies: int, signals: Sequence[str] = ("v", "s", "zp", "zn"), supply: bool = True) -> list[str]:
    """Vectors of every copy: ``v(signal{k})``, then the supply currents of every copy."""
    vectors = [f"v({signal}{k})" for signal in signals for k in range(copies)]
    if supply:
        vectors += [f"i({rail}{k})" for rail in ("vdd", "vss") for k in range(copies)]
    return vectors


def step_source(name: str, node: str, volts: float, delay_s: float, rise_s: float) -> str:
    """A voltage step from 0 to ``volts`` that begins at ``delay_s`` and lasts ``rise_s``."""
    points = [(0.0, 0.0), (delay_s, 0.0), (delay_s + rise_s, volts)]
    return f"V{name} {node} 0 PWL({' '.join(f'{number(t)} {number(v)}' for t, v in points)})"


def supply_bench(
    drive: str, load_siemens: float, neuron: Neuron, operating: Operating, cells: NeuronCells
) -> list[str]:
    """One neuron driven from node x, each of its cells on rails of its own: sources Vdd{slot} and Vss{slot}."""
    circuit = Circuit("supply_bench")
    harness = [drive, f"Gin 0 s0 x 0 {number(1 / neuron.r_feedback_ohm)}", f"Rl s0 0 {number(1 / load_siemens)}"]
    for slot in cells.neuron:
        harness += [f"Vdd{slot} vdd{slot} 0 {number(operating.vdd_v)}"]
        harness += [f"Vss{slot} vss{slot} 0 {number(operating.vss_v)}"]
        nodes = NeuronNodes.numbered(0, vdd=f"vdd{slot}", vss=f"vss{slot}")
        if slot == "activation":
            add_activation(circuit, 0, nodes, cells.activation, {})
        elif slot == "driver":
            add_driver(circuit, 0, nodes, cells, {})
        else:
            add_integrator(circuit, 0, nodes, neuron, cells, {})
    return [*cells.includes, *harness, *circuit_lines(circuit)]


def synapse_bench(
    programmed: Sequence[tuple[float, Mapping[str, float]]], cells: NeuronCells, read_v: float
) -> list[str]:
    """Synapse cells, each (g in siemens, its mismatch parameters) with ``read_v`` across it; current in i(Vg{k})."""
    lines = include_lines([cells.synapse])
    for k, (g, errors) in enumerate(programmed):
        lines.append(f"Vg{k} g{k} 0 {number(read_v)}")
        lines.append(synapse_instance(cells.synapse, f"Xg{k}", f"g{k}", "0", g, errors))
    return lines
