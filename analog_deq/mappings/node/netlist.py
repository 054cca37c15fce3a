"""Netlists of node neurons: single ones on a bench, and whole networks with their array flat or reduced.

The node is s{tag}; the activation reads it, the driver sends what it makes of it to the rows zp{tag}, zn{tag} without
inverting. The array is that of every mapping (``netlists.crossbar``), its columns end on the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analog_deq.errors import SpecError
from analog_deq.mappings.node.spec import NodeSettings
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.crossbar import CrossbarParameters, flat_lines, mesh_lines
from analog_deq.netlists.deck import number
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines, load_cell
from analog_deq.netlists.network import port_names
from analog_deq.spec import Operating

Array = np.ndarray
ROLES = {"activation": "activation", "driver": "driver", "synapse": "synapse", "load": "ota"}


@dataclass(frozen=True, slots=True)
class NodeCells:
    """The cells of a node network by slot; without ``load`` the node has a resistor only."""

    settings: NodeSettings
    named: Mapping[str, Cell]

    @classmethod
    def of(cls, settings: NodeSettings) -> NodeCells:
        """Cells that the settings name. SpecError for one whose role does not fit."""
        names = {slot: getattr(settings, slot) for slot in ROLES if getattr(settings, slot) is not None}
        cells = {slot: load_cell(name) for slot, name in names.items()}
        for slot, cell in cells.items():
            if cell.role != ROLES[slot]:
                raise SpecError(f"family.{slot} = {names[slot]!r}: that cell is a {cell.role}, not a {ROLES[slot]}")
        return cls(settings, cells)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        return cell_files(list(self.named.values()))

    @property
    def includes(self) -> list[str]:
        return include_lines(list(self.named.values()))

    @property
    def arguments(self) -> tuple[str, ...]:
        return cell_arguments(list(self.named.values()))

    def sigmas(self) -> dict[str, float]:
        """Standard deviation of each mismatch parameter of one neuron: ``slot.parameter``, and its passive parts."""
        spread = {
            f"{slot}.{name}": sigma
            for slot, cell in self.named.items()
            if slot != "synapse"
            for name, sigma in sorted(cell.mismatch_sigmas.items())
        }
        passive = {"c_node": self.settings.sigma_c, "leak": self.settings.sigma_leak}
        return spread | {name: sigma for name, sigma in passive.items() if sigma > 0}

    def neuron(
        self, tag: object, deviations: Mapping[str, float] | None = None, vdd: str = "vdd", vss: str = "vss"
    ) -> list[str]:
        """Lines of one neuron: capacitor, load, activation, driver."""
        off, settings, node = deviations or {}, self.settings, f"s{tag}"
        rails = {"vdd": vdd, "vss": vss}
        lines = [f"Cn{tag} {node} 0 {number(settings.c_node_f * (1 + off.get('c_node', 0.0)))}"]
        if settings.leak_siemens > 0:
            leak = settings.leak_siemens * (1 + off.get("leak", 0.0))
            lines.append(f"Rl{tag} {node} 0 {number(1 / leak)}")
        if "load" in self.named:
            pins = {"in_p": "0", "in_n": node, "out": node, **rails}
            lines.append(self._instance("load", f"Xl{tag}", pins, settings.load_params, off))
        pins = {"in": node, "out_p": f"ap{tag}", "out_n": f"an{tag}", **rails}
        lines.append(self._instance("activation", f"Xa{tag}", pins, settings.activation_params, off))
        negative = f"an{tag}" if "out_n" in self.named["activation"].contract.pins else "0"
        pins = {"in_p": f"ap{tag}", "in_n": negative, "out_p": f"zp{tag}", "out_n": f"zn{tag}", **rails}
        lines.append(self._instance("driver", f"Xd{tag}", pins, {}, off))
        return [line for text in lines for line in text.splitlines()]

    def _instance(
        self, slot: str, name: str, pins: Mapping[str, str], params: Mapping[str, float], off: Mapping[str, float]
    ) -> str:
        own = {key.removeprefix(f"{slot}."): v for key, v in off.items() if key.startswith(f"{slot}.")}
        return self.named[slot].instance(name, pins, {**params, **own})


@dataclass(frozen=True, slots=True)
class Copy:
    """One neuron on a bench: conductance from each driver output to ground, mismatch."""

    driver_load_siemens: float = 0.0
    deviations: Mapping[str, float] | None = None


def bench(copies: Sequence[Copy], drives: Sequence[str], cells: NodeCells, operating: Operating) -> list[str]:
    """Neurons with supplies Vdd{k}, Vss{k} of their own; ``drives`` are the lines that drive their nodes s{k}."""
    lines = [*cells.includes, *drives]
    for k, copy in enumerate(copies):
        lines += [f"Vdd{k} vdd{k} 0 {number(operating.vdd_v)}", f"Vss{k} vss{k} 0 {number(operating.vss_v)}"]
        if copy.driver_load_siemens > 0:
            load = number(1 / copy.driver_load_siemens)
            lines += [f"Rp{k} zp{k} 0 {load}", f"Rq{k} zn{k} 0 {load}"]
        lines += cells.neuron(k, copy.deviations, f"vdd{k}", f"vss{k}")
    return lines


def network_lines(cells: NodeCells, operating: Operating, states: int, deviations: Mapping[str, Array]) -> list[str]:
    """Supplies and the N neurons with their mismatch."""
    lines = [*cells.includes, f"Vdd vdd 0 {number(operating.vdd_v)}", f"Vss vss 0 {number(operating.vss_v)}"]
    for i in range(states):
        lines += cells.neuron(i, {key: float(values[i]) for key, values in deviations.items()})
    return lines


def flat_array(crossbar: CrossbarParameters, synapse: Cell, volts: Array) -> list[str]:
    """Every cell and wire of the array; DAC lines at ``volts`` (images, sources), by the index source ``Vk``."""
    lines = flat_lines(crossbar, synapse)
    if len(volts) == 1:
        return lines + [f"Vx{q} x{q} 0 {number(v)}" for q, v in enumerate(volts[0])]
    lines.append("Vk kk 0 0")
    return lines + [f"Bx{q} x{q} 0 V={indexed(volts[:, q])}" for q in range(volts.shape[1])]


def reduced_array(branches: Sequence[tuple[int, int, float]], states: int, amps: Array) -> list[str]:
    """The array as its resistor mesh; ``amps`` (images, 3N) is what the DAC lines send into each port."""
    lines, ports = mesh_lines(branches, states), port_names(states)
    if len(amps) == 1:
        return lines + [f"Ij{p} 0 {ports[p]} {number(a)}" for p, a in enumerate(amps[0])]
    lines.append("Vk kk 0 0")
    return lines + [f"Bj{p} 0 {ports[p]} I={indexed(amps[:, p])}" for p in range(3 * states)]


def indexed(values: Array) -> str:
    """Piecewise-linear table over the image index v(kk); exact at the integers the sweep stops at."""
    return "pwl(v(kk)," + ",".join(f"{k},{number(value)}" for k, value in enumerate(values)) + ")"
