"""The circuit: clocks, switches, one neuron, row drivers and the capacitor array, as lines of a deck.

A neuron in phase 1 (reset): the op-amp is closed on itself, so that its summing node s rests at its own offset; rows
and C_F's far plate are at ground; master and slave share their charge, and the slave's voltage is the activation's
input. In phase 2 (transfer): the rows carry the held states, C_F bridges the op-amp, and the charge the rows pushed
into s appears as v = -sum C_j V_j / C_F, free of the offset; the master tracks v and samples it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.deck import number
from analog_deq.netlists.library import cell_files, include_lines, load_cell
from analog_deq.spec import Operating

PHASES = ("p1", "p1a", "p2", "p2a")
"""Reset, reset opening early, transfer, transfer opening early. Each has a twin, q for p, one edge later: what couples
through a switch's clock arrives when the switch has opened, so the charge is C_feedthrough times the swing whatever
the time steps."""
SWITCHES = ("reset", "ground", "close", "master", "share")
"""A neuron's own switches: s to v, C_F's far plate to ground and to v, v to master, master to slave."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The three cells of a neuron."""

    opamp: Cell
    activation: Cell
    driver: Cell

    @classmethod
    def of(cls, settings: Settings) -> Cells:
        """Cells that the settings name."""
        return cls(load_cell(settings.opamp), load_cell(settings.activation), load_cell(settings.driver))

    @property
    def named(self) -> dict[str, Cell]:
        return {"opamp": self.opamp, "activation": self.activation, "driver": self.driver}

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        return cell_files(list(self.named.values()))

    @property
    def includes(self) -> list[str]:
        return include_lines(list(self.named.values()))


@dataclass(frozen=True, slots=True)
class Bench:
    """What every deck of the family is made from.

    ``held`` ("p1" or "p2") freezes the clock in a phase, every switch a resistor: the linear circuit of ``.noise``.
    """

    settings: Settings
    operating: Operating
    cells: Cells
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Deviations:
    """Mismatch of one neuron: cell parameters by ``slot.name``, relative errors of C_F and of each feedthrough."""

    cells: Mapping[str, float] = field(default_factory=dict)
    feedback: float = 0.0
    feedthrough: Mapping[str, float] = field(default_factory=dict)

    def of(self, slot: str) -> dict[str, float]:
        """Parameters of one cell."""
        return {k.partition(".")[2]: v for k, v in self.cells.items() if k.partition(".")[0] == slot}


def harness(bench: Bench) -> list[str]:
    """Includes, switch models, rails and, unless a phase is held, clocks."""
    switches, rails = bench.settings.switches, bench.operating
    supplies = [f"Vdd vdd 0 {number(rails.vdd_v)}", f"Vss vss 0 {number(rails.vss_v)}"]
    if bench.held is not None:
        return [*bench.cells.includes, *supplies]
    models = [switch_model(bench, "swon", switches.r_on_ohm), switch_model(bench, "swreset", switches.r_reset_ohm)]
    return [*bench.cells.includes, *models, *supplies, *clock_lines(bench)]


def switch_model(bench: Bench, name: str, on_ohm: float) -> str:
    """Model card of switches that turn on half-way between the rails."""
    middle = number((bench.operating.vdd_v + bench.operating.vss_v) / 2)
    off = number(bench.settings.switches.r_off_ohm)
    return f".model {name} sw vt={middle} vh=0 ron={number(on_ohm)} roff={off}"


def clock_lines(bench: Bench) -> list[str]:
    """The four phases and their later twins, between the rails; phase 1 is on at t = 0."""
    clock, high, low = bench.settings.clock, number(bench.operating.vdd_v), number(bench.operating.vss_v)
    lines = []
    for phase in PHASES:
        shift = clock.early_s if phase.endswith("a") else 0.0
        first = phase.startswith("p1")
        delay = clock.phase_s - shift if first else clock.phase_s + clock.gap_s
        width = clock.period_s - clock.phase_s + shift if first else clock.phase_s - shift
        before, after = (high, low) if first else (low, high)
        for kind, later in (("p", 0.0), ("q", clock.edge_s)):
            times = [delay + later, clock.edge_s, clock.edge_s, width - clock.edge_s, clock.period_s]
            node = f"{kind}{phase[1:]}"
            lines.append(f"V{node} {node} 0 PULSE({before} {after} {' '.join(map(number, times))})")
    return lines


def switch(
    bench: Bench, name: str, a: str, b: str, phase: str, *, on_ohm: float, error: float = 0.0, model: str = "swon"
) -> list[str]:
    """A switch between ``a`` and ``b`` that is on in ``phase``, and its feedthrough to both."""
    settings = bench.settings.switches
    if bench.held is not None:
        return [f"R{name} {a} {b} {number(on_ohm if phase.startswith(bench.held) else settings.r_off_ohm)}"]
    coupling = settings.c_feedthrough_f * (1 + error)
    ends = [(side, node) for side, node in (("a", a), ("b", b)) if node != "0" and coupling > 0]
    feedthrough = [f"C{side}{name} q{phase[1:]} {node} {number(coupling)}" for side, node in ends]
    return [f"S{name} {a} {b} {phase} 0 {model}", *feedthrough]


def neuron_lines(
    bench: Bench, tag: object, dev: Deviations | None = None, rails: tuple[str, str] = ("vdd", "vss"), plus: str = "0"
) -> list[str]:
    """One neuron: s{tag} summing node, v op-amp output, m master, u slave, dp and dn driver outputs.

    ``plus`` is the op-amp's non-inverting input, ground unless a test drives it.
    """
    dev = dev or Deviations()
    part, cells = bench.settings.capacitors, bench.cells
    pins = {"vdd": rails[0], "vss": rails[1]}
    s, f, v, m, u = (f"{n}{tag}" for n in "sfvmu")
    amp = {"in_p": plus, "in_n": s, "out": v, **pins}
    pair = {"in": u, "out_p": f"ap{tag}", "out_n": f"an{tag}", **pins}
    drive = {"in_p": f"an{tag}", "in_n": f"ap{tag}", "out_p": f"dp{tag}", "out_n": f"dn{tag}", **pins}
    skew, r_on, r_reset = dev.feedthrough, bench.settings.switches.r_on_ohm, bench.settings.switches.r_reset_ohm
    lines = [
        cells.opamp.instance(f"Xo{tag}", amp, dev.of("opamp")),
        cells.activation.instance(f"Xa{tag}", pair, dev.of("activation")),
        cells.driver.instance(f"Xd{tag}", drive, dev.of("driver")),
        f"Cf{tag} {s} {f} {number(part.feedback_f * (1 + dev.feedback))}",
        f"Cm{tag} {m} 0 {number(part.master_f)}",
        f"Cs{tag} {u} 0 {number(part.slave_f)}",
        *switch(bench, f"r{tag}", s, v, "p1a", on_ohm=r_reset, error=skew.get("reset", 0.0), model="swreset"),
        *switch(bench, f"g{tag}", f, "0", "p1", on_ohm=r_on, error=skew.get("ground", 0.0)),
        *switch(bench, f"f{tag}", f, v, "p2", on_ohm=r_on, error=skew.get("close", 0.0)),
        *switch(bench, f"m{tag}", v, m, "p2a", on_ohm=r_on, error=skew.get("master", 0.0)),
        *switch(bench, f"u{tag}", m, u, "p1", on_ohm=r_on, error=skew.get("share", 0.0)),
    ]
    if part.parasitic_f > 0:
        lines.append(f"Cp{tag} {s} 0 {number(part.parasitic_f)}")
    return [line for entry in lines for line in entry.splitlines()]


def row_lines(
    bench: Bench, name: str, source: str, row: str, *, on_ohm: float | None = None, model: str = "swon"
) -> list[str]:
    """Switches of one row line: to its source in phase 2, to ground in phase 1."""
    ohm = bench.settings.switches.r_on_ohm if on_ohm is None else on_ohm
    return [
        *switch(bench, f"t{name}", source, row, "p2", on_ohm=ohm, model=model),
        *switch(bench, f"z{name}", row, "0", "p1", on_ohm=ohm, model=model),
    ]


def array_lines(c: np.ndarray, rows: Sequence[str], r_line_ohm: float) -> list[str]:
    """The capacitor array: ``c`` (row lines, N) farads between row lines and summing nodes, zeros left out.

    With wires a row starts at its node and passes segment, cell, segment, cell ...; a column runs from row 0 down and
    ends, through a last segment, at its summing node.
    """
    count, n = c.shape
    if r_line_ohm == 0.0:
        return [f"Cx{q}_{i} {rows[q]} s{i} {number(c[q, i])}" for q in range(count) for i in range(n) if c[q, i] > 0]
    r, lines = number(r_line_ohm), []
    for q in range(count):
        for i in range(n):
            left = rows[q] if i == 0 else f"w{q}_{i - 1}"
            below = f"s{i}" if q == count - 1 else f"k{q + 1}_{i}"
            lines += [f"Rr{q}_{i} {left} w{q}_{i} {r}", f"Rk{q}_{i} k{q}_{i} {below} {r}"]
            if c[q, i] > 0:
                lines.append(f"Cx{q}_{i} w{q}_{i} k{q}_{i} {number(c[q, i])}")
    return lines
