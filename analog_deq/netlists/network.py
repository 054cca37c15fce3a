"""The whole recurrent network tau dv/dt = -v + sigma(W_fb v + W_ff x + b), as one ngspice deck.

Two forms of the same circuit. *Flat*: every synapse and wire is an element. *Reduced*: the passive array is its
exact resistor mesh between the neurons' ports (3 per neuron), the DAC lines are currents into those ports. The
cells are the user's own subcircuits in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PySpice.Spice.Netlist import Circuit

from analog_deq.errors import NetlistError
from analog_deq.netlists.crossbar import CrossbarParameters, flat_lines, mesh_lines, transfer_lines
from analog_deq.netlists.deck import number
from analog_deq.netlists.neuron import NeuronCells, NeuronNodes, add_neuron, circuit_lines
from analog_deq.spec import Neuron, Operating

SIGNALS = ("v", "zp", "zn", "s")


@dataclass(frozen=True, slots=True)
class NetworkParameters:
    """Everything the netlist of a network depends on.

    ``deviations`` maps a mismatch key (``opamp.vos``, ``r_feedback`` ...) to one value per neuron.
    ``trim_a`` is the trim current into each summing node.
    """

    neuron: Neuron
    operating: Operating
    cells: NeuronCells
    crossbar: CrossbarParameters
    deviations: Mapping[str, np.ndarray] = field(default_factory=dict)
    trim_a: np.ndarray | None = None

    def __post_init__(self) -> None:
        for key, values in self.deviations.items():
            if np.shape(values) != (self.states,):
                raise NetlistError(f"deviation {key!r} has shape {np.shape(values)}; one value a neuron is needed")

    @property
    def states(self) -> int:
        return self.crossbar.columns


def neuron_lines(parameters: NetworkParameters) -> list[str]:
    """Supplies, the N neurons with their mismatch, and their trim currents."""
    circuit = Circuit("network")
    circuit.V("dd", "vdd", "0", parameters.operating.vdd_v)
    circuit.V("ss", "vss", "0", parameters.operating.vss_v)
    for i in range(parameters.states):
        deviations = {key: float(values[i]) for key, values in parameters.deviations.items()}
        add_neuron(circuit, i, NeuronNodes.numbered(i), parameters.neuron, parameters.cells, deviations)
        if parameters.trim_a is not None:
            circuit.I(f"t{i}", "0", f"s{i}", float(parameters.trim_a[i]))
    return [*parameters.cells.includes, *circuit_lines(circuit)]


def flat_network(
    parameters: NetworkParameters, source_volts: np.ndarray, summing_amps: np.ndarray | None = None
) -> list[str]:
    """Flat netlist; ``source_volts`` (sources,) or (images, sources) drives the DAC lines.

    ``summing_amps``, of one row an image, is a further current into each summing node (N).
    With several images the DAC lines follow the index source ``Vk`` (0, 1, 2 ...) for a ``.dc`` sweep.
    """
    volts = np.atleast_2d(source_volts)
    if volts.shape[1] != parameters.crossbar.sources:
        raise NetlistError(f"{volts.shape[1]} DAC voltages for {parameters.crossbar.sources} DAC lines")
    lines = neuron_lines(parameters) + flat_lines(parameters.crossbar, parameters.cells.synapse)
    if summing_amps is not None:
        amps = np.atleast_2d(summing_amps)
        if amps.shape != (len(volts), parameters.states):
            raise NetlistError(f"currents of shape {amps.shape} for {len(volts)} images, {parameters.states} nodes")
        lines += [
            f"In{i} 0 s{i} {number(amps[0, i])}" if len(volts) == 1 else f"Bn{i} 0 s{i} I={_indexed(amps[:, i])}"
            for i in range(parameters.states)
        ]
    if len(volts) == 1:
        return lines + [f"Vx{q} x{q} 0 {number(v)}" for q, v in enumerate(volts[0])]
    lines.append("Vk kk 0 0")
    return lines + [f"Bx{q} x{q} 0 V={_indexed(volts[:, q])}" for q in range(volts.shape[1])]


def reduced_network(
    parameters: NetworkParameters,
    branches: Sequence[tuple[int, int, float]],
    port_amps: np.ndarray,
    coupling: np.ndarray | None = None,
) -> list[str]:
    """Reduced netlist; ``port_amps`` (3N,) or (images, 3N) is the DAC current into each port, or (N,), (images, N) into
    the summing nodes alone.

    ``coupling`` (N, 2N) adds transconductances from the rows to the summing nodes, for an array in one-way form; (N, N)
    from the zp rows alone.
    One image gives independent sources ``Ij{port}`` (alter them); several follow the index source ``Vk``.
    """
    amps = np.atleast_2d(port_amps)
    n = parameters.states
    if amps.shape[1] not in (n, 3 * n):
        raise NetlistError(f"{amps.shape[1]} port currents for {n} summing nodes or {3 * n} ports")
    lines = neuron_lines(parameters) + mesh_lines(branches, n)
    if coupling is not None:
        lines += transfer_lines(coupling)
    ports = port_names(n)
    if len(amps) == 1:
        return lines + [f"Ij{p} 0 {ports[p]} {number(a)}" for p, a in enumerate(amps[0])]
    lines.append("Vk kk 0 0")
    return lines + [f"Bj{p} 0 {ports[p]} I={_indexed(amps[:, p])}" for p in range(amps.shape[1])]


def port_names(states: int) -> list[str]:
    """Ports of the array in order: summing nodes, then zp and zn of each neuron."""
    return [f"s{i}" for i in range(states)] + [f"{sign}{i}" for i in range(states) for sign in ("zp", "zn")]


def saved_vectors(states: int, signals: Sequence[str] = SIGNALS, supply: bool = True) -> list[str]:
    """Vectors to save: ``v(signal_i)`` for each signal and neuron, then the two supply currents."""
    vectors = [f"v({signal}{i})" for signal in signals for i in range(states)]
    return [*vectors, "i(vdd)", "i(vss)"] if supply else vectors


def _indexed(values: np.ndarray) -> str:
    """Piecewise-linear table over the image index; exact at the integers the sweep stops at."""
    pairs = ",".join(f"{k},{number(value)}" for k, value in enumerate(values))
    return f"pwl(v(kk),{pairs})"
