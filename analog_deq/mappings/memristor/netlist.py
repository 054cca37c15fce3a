"""Netlists: single-ended word lines, a differential pair of bit lines a neuron, two transimpedance amplifiers each.

Word line k is driven by one DAC (inputs, bias) or by one output of a neuron's driver; the driver's other output stays
open. Neuron i has the bit lines 2i (p) and 2i + 1 (n), at the virtual grounds ``sp{i}`` and ``sn{i}`` of two op-amps
with R_F || C_F, so v = -R_F sum(G V). The pair reads ``vn - vp`` = R_F sum((G_p - G_n) V): a positive weight on a
positive row raises z. No capacitor integrates: C_F only keeps the amplifiers stable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analog_deq.errors import NetlistError, SpecError
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.deck import number
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines, load_cell
from analog_deq.spec import Operating

Array = np.ndarray
SIDES = ("p", "n")


@dataclass(frozen=True, slots=True)
class MemristorCells:
    """The cells of the family. The activation's contract ties its second input to ground; here it is used."""

    opamp: Cell
    activation: Cell
    driver: Cell
    synapse: Cell

    @property
    def all(self) -> list[Cell]:
        """The four cells."""
        return [self.opamp, self.activation, self.driver, self.synapse]

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Files of every deck, as ``Deck.files`` takes them."""
        return cell_files(self.all)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Definitions ngspice is started with."""
        return cell_arguments(self.all)

    @property
    def includes(self) -> list[str]:
        """The lines that include :attr:`files`."""
        return include_lines(self.all)

    def sigmas(self, spec: MemristorSpec, passive: Mapping[str, float]) -> dict[str, float]:
        """Standard deviation of every deviation of one neuron: two amplifiers, the pair, the driver."""
        found = {}
        for side in SIDES:
            for name, sigma in self.opamp.mismatch_sigmas.items():
                found[f"opamp_{side}.{name}"] = sigma * (spec.offset_left if name == "vos" else 1.0)
            found |= {f"{name}_{side}": sigma for name, sigma in passive.items()}
        for slot, cell in (("activation", self.activation), ("driver", self.driver)):
            found |= {f"{slot}.{name}": sigma for name, sigma in cell.mismatch_sigmas.items()}
        return found


def load_cells(spec: MemristorSpec) -> MemristorCells:
    """Cells of a family. SpecError for one of a wrong role, or an activation without a second input."""
    roles = {"opamp": ("opamp", "ota"), "activation": ("activation",), "driver": ("driver",), "synapse": ("synapse",)}
    loaded = {}
    for slot, fitting in roles.items():
        cell = load_cell(getattr(spec, slot))
        if cell.role not in fitting:
            raise SpecError(f"family.{slot} = {getattr(spec, slot)!r}: its role is {cell.role!r}; name {fitting[0]!r}")
        loaded[slot] = cell
    tied = loaded["activation"].contract.tie
    if len(tied) != 1 or "out_n" not in loaded["activation"].contract.pins:
        raise SpecError(
            f"family.activation = {spec.activation!r}: a pair with two outputs and a second input, its only tied pin, "
            "is needed; pair_2in is one"
        )
    synapse = loaded["synapse"]
    if spec.age_s is not None:
        drift = synapse.contract.drift
        if drift is None:
            raise SpecError(
                f"family.age_s = {spec.age_s:g}: {spec.synapse} holds one time only; leave age_s out, or name a cell "
                "of another time as the synapse"
            )
        known = synapse.contract.params[drift.param]
        if not known.min <= spec.age_s <= known.max:
            raise SpecError(f"family.age_s = {spec.age_s:g}: {spec.synapse} holds {known.min:g} to {known.max:g} s")
    return MemristorCells(**loaded)


def rails(operating: Operating, tag: str = "") -> list[str]:
    """The two supplies, sources ``Vdd{tag}`` and ``Vss{tag}``."""
    return [
        f"Vdd{tag} vdd{tag} 0 {number(operating.vdd_v)}",
        f"Vss{tag} vss{tag} 0 {number(operating.vss_v)}",
    ]


def neuron_lines(
    tag: object,
    spec: MemristorSpec,
    cells: MemristorCells,
    deviations: Mapping[str, float] | None = None,
    rail: str = "",
) -> list[str]:
    """Two amplifiers, the pair and the driver of neuron ``tag``: nodes sp, sn, vp, vn, ap, an, zp, zq (open)."""
    off = deviations or {}
    supply = {"vdd": f"vdd{rail}", "vss": f"vss{rail}"}

    def pins(cell: Cell, nodes: Mapping[str, str]) -> dict[str, str]:
        return {**nodes, **{rail: node for rail, node in supply.items() if rail in cell.contract.pins}}

    def params(slot: str, given: Mapping[str, float]) -> dict[str, float]:
        own = {k.removeprefix(f"{slot}."): v for k, v in off.items() if k.startswith(f"{slot}.")}
        return {**given, **own}

    lines = []
    for side in SIDES:
        summing, output = f"s{side}{tag}", f"v{side}{tag}"
        nodes = pins(cells.opamp, {"in_p": "0", "in_n": summing, "out": output})
        lines.append(cells.opamp.instance(f"Xo{side}{tag}", nodes, params(f"opamp_{side}", spec.opamp_params)))
        r = spec.r_feedback_ohm * (1 + off.get(f"r_feedback_{side}", 0.0))
        c = spec.c_feedback_f * (1 + off.get(f"c_feedback_{side}", 0.0))
        lines += [f"Rf{side}{tag} {summing} {output} {number(r)}", f"Cf{side}{tag} {summing} {output} {number(c)}"]
        if spec.c_input_f > 0:
            lines.append(f"Ci{side}{tag} {summing} 0 {number(spec.c_input_f)}")
    lines.append(_pair(tag, cells.activation, supply, params("activation", spec.activation_params)))
    nodes = pins(cells.driver, {"in_p": f"ap{tag}", "in_n": f"an{tag}", "out_p": f"zp{tag}", "out_n": f"zq{tag}"})
    lines.append(cells.driver.instance(f"Xd{tag}", nodes, params("driver", spec.driver_params)))
    return lines


def _pair(tag: object, cell: Cell, supply: Mapping[str, str], params: Mapping[str, float]) -> str:
    """The pair between the two amplifiers: its input at vn, its second one at vp."""
    nodes = {"in": f"vn{tag}", "out_p": f"ap{tag}", "out_n": f"an{tag}", **supply}
    line, *ties = cell.instance(f"Xa{tag}", nodes, params).splitlines()
    words = line.split()
    (second,) = cell.contract.tie
    place = 1 + list(cell.header.pins).index(second.lower())
    if ties or words[place] != "0":
        raise NetlistError(f"{cell.source}: tie.{second} must be a wire to ground, where a second input can go")
    words[place] = f"vp{tag}"
    return " ".join(words)


def physical(programmed: Array) -> Array:
    """(R, 2N): column 2i is programmed[0, :, i], column 2i + 1 is programmed[1, :, i], of (2, R, N)."""
    two, rows, n = programmed.shape
    return np.ascontiguousarray(np.moveaxis(programmed, 0, -1).reshape(rows, two * n))


def row_terminals(rows: int, states: int) -> list[str]:
    """Node that drives each word line: the DAC behind its resistance, then the neurons' drivers."""
    return [f"x{k}" for k in range(rows - states)] + [f"zp{i}" for i in range(states)]


def column_ports(states: int) -> list[str]:
    """Virtual ground at the end of each bit line."""
    return [f"s{side}{i}" for i in range(states) for side in SIDES]


def device_line(
    name: str, row: str, column: str, g: float, errors: Mapping[str, float], spec: MemristorSpec, cell: Cell
) -> list[str]:
    """One device programmed to ``g``, at its age, and its selector when there is one."""
    params = {cell.contract.state["g"].param: g, **{key: value for key, value in errors.items() if value}}
    drift = cell.contract.drift
    if drift is not None and spec.age_s is not None:
        params[drift.param] = spec.age_s
    if spec.selector_ohm == 0:
        return [cell.instance(f"X{name}", {"row": row, "col": column}, params)]
    return [
        f"Rt{name} {row} t{name} {number(spec.selector_ohm)}",
        cell.instance(f"X{name}", {"row": f"t{name}", "col": column}, params),
    ]


def flat_array(
    g: Array,
    errors: Mapping[str, Array],
    states: int,
    spec: MemristorSpec,
    synapse: Cell,
    *,
    r_line_ohm: float,
    r_dac_ohm: float,
) -> list[str]:
    """Every device and wire of the array, ``g`` (R, 2N) and ``errors`` of the same shape; DACs drive the nodes x{k}.

    A word line runs driver - (r_dac) - segment - cell 0 - segment - cell 1 ..., a bit line from row 0 down to the last
    row and through one segment into the virtual ground.
    """
    rows, columns = g.shape
    terminals, ports = row_terminals(rows, states), column_ports(states)
    lines = []
    for k in range(rows):
        start = terminals[k]
        if k < rows - states:
            start = f"w{k}"
            lines.append(f"Rd{k} {terminals[k]} {start} {number(r_dac_ohm)}")
        for j in range(columns):
            row, column = start, ports[j]
            if r_line_ohm > 0:
                row, column = f"w{k}_{j}", f"c{k}_{j}"
                lines.append(f"Rw{k}_{j} {start if j == 0 else f'w{k}_{j - 1}'} {row} {number(r_line_ohm)}")
                below = ports[j] if k == rows - 1 else f"c{k + 1}_{j}"
                lines.append(f"Rb{k}_{j} {column} {below} {number(r_line_ohm)}")
            own = {name: float(values[k, j]) for name, values in errors.items()}
            lines += device_line(f"g{k}_{j}", row, column, float(g[k, j]), own, spec, synapse)
    return lines


LAW_REACH = 2.0
"""The read law's polynomial ends at this multiple of the read voltage: only iterates of the solver go beyond."""


def law_expression(node: str, law: Sequence[float], z_unit_v: float) -> str:
    """The read law ``v (1 + a u^2 + b u^4) / (1 + a + b)``, u = v / z_unit_v, of a node's voltage as an expression."""
    a, b = law
    scale, limit = 1 + a + b, number(LAW_REACH * z_unit_v)
    u2 = f"pow(max(min(v({node}),{limit}),-{limit}),2)"
    first, second = number(a / z_unit_v**2 / scale), number(b / z_unit_v**4 / scale)
    return f"v({node})*({number(1 / scale)}+{u2}*({first}+{u2}*{second}))"


def reduced_array(
    branches: Sequence[tuple[int, int, float]], states: int, law: Sequence[float], z_unit_v: float
) -> list[str]:
    """The array as the resistor mesh of its ports, [N driven rows, 2N columns].

    Devices whose read law bends act on a row as their linear array acts on the bent voltage: node y{i} carries it, and
    the current it delivers is taken from the driver. Exact where all devices of a row see one voltage.
    """
    bent = any(law)
    rows = [f"{'y' if bent else 'zp'}{i}" for i in range(states)]
    ports = rows + column_ports(states)
    lines = []
    for i in range(states if bent else 0):
        lines += [
            f"By{i} yb{i} 0 V={law_expression(f'zp{i}', law, z_unit_v)}",
            f"Vy{i} yb{i} y{i} 0",
            f"Fy{i} zp{i} 0 Vy{i} 1",
        ]
    for a, b, conductance in branches:
        lines.append(f"Rm{a}_{b if b >= 0 else 'g'} {ports[a]} {ports[b] if b >= 0 else '0'} {number(1 / conductance)}")
    return lines
