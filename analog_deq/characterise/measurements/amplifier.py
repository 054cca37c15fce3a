"""What the testbenches of amplifiers share: the load, unity feedback, and small signals from chosen ports.

Feedback reaches ``in_n`` through an ideal adder, v(in_n) = v_cm + v(out) - target, while ``in_p`` stays at v_cm. It is
unity feedback at a fixed common mode, as in a virtual-ground stage: how far the output goes does not depend on the
input's common-mode range, which in a follower is the smaller of the two.
"""

from __future__ import annotations

from analog_deq.characterise.measurement import CellBench, Copy
from analog_deq.netlists.deck import number
from analog_deq.records import Alter
from analog_deq.units import engineering

DEFAULT_LOAD_F = 1e-12
HUGE_HENRY = HUGE_FARAD = 1e12
"""At 0.01 Hz the inductor is 6e10 ohm and the capacitor 2e-11 ohm: below 1e-21 of the output leaks into the input."""
START_HZ = 1e-2
"""Where a frequency response starts, and what is called DC in one."""
AC_HZ = 1e5
"""Where rejection, impedance and noise are read besides at DC."""
NULLOR = 1e6
"""Loop gain added by the testbench where the amplifier's own must not show."""

SMALL_SIGNALS = ("differential", "inverting", "common", "vdd", "vss", "output", "loop")
"""Ports of :func:`small_signal_lines`: volts at the inputs and the rails, amperes into the output; and the loop."""


def load_lines(bench: CellBench, copy: Copy, node: str) -> list[str]:
    """The contract's load at ``node``: ``load`` in farads (1 pF unless stated), ``load_r`` in ohms to mid-supply.

    The load resistor is noiseless: it is the testbench's, not the cell's.
    """
    lines = [f"Cl{copy.tag} {node} 0 {number(bench.condition('load', DEFAULT_LOAD_F))}"]
    if "load_r" in bench.cell.contract.conditions:
        ohm = number(bench.condition("load_r", 0.0))
        middle = number(bench.corner.middle_v)
        lines += [f"Vl{copy.tag} l{copy.tag} 0 {middle}", f"Rl{copy.tag} {node} l{copy.tag} {ohm} noisy=0"]
    return lines


def load_text(bench: CellBench) -> str:
    """The load of :func:`load_lines` as ``at`` names it, such as ``load=500fF`` or ``load=500fF||10kohm``."""
    text = f"load={compact(bench.condition('load', DEFAULT_LOAD_F), 'F')}"
    if "load_r" in bench.cell.contract.conditions:
        text += f"||{compact(bench.condition('load_r', 0.0), 'ohm')}"
    return text


def compact(value: float, unit: str) -> str:
    """Engineering notation without the blank, for ``at``.

    >>> compact(1e5, "Hz")
    '100kHz'
    """
    return engineering(value, unit).replace(" ", "")


def typical_supply_v(bench: CellBench, without: float) -> float:
    """Typical total supply; ``without`` for a cell that has none."""
    return bench.condition("vdd", 0.0) - bench.condition("vss", 0.0) if bench.has_supply else without


def common_mode_v(bench: CellBench) -> float:
    """Common-mode voltage of the inputs: the contract's ``in_cm``, else mid-supply."""
    return bench.condition("in_cm", bench.corner.middle_v)


def feedback_lines(bench: CellBench, copy: Copy, *, loaded: bool = True) -> list[str]:
    """One copy under unity feedback, with rails and load: output ``o<tag>`` follows the shared node ``t``.

    The shared node ``cm`` is the common mode; both are the caller's to drive.
    """
    k = copy.tag
    return [
        *bench.supplies(copy),
        f"En{k} n{k} cm o{k} t 1",
        *(load_lines(bench, copy, f"o{k}") if loaded else []),
        bench.instance(copy, {"in_p": "cm", "in_n": f"n{k}", "out": f"o{k}"}),
    ]


def small_signal_lines(bench: CellBench, *, loaded: bool = True) -> list[str]:
    """Every copy of a bench, biased by unity feedback at DC, with a small-signal source at each port.

    :func:`drive` chooses which sources are on and how much of the output is fed back for AC; at DC they are all zero.
    Nodes of a copy: ``o<tag>`` output, ``n<tag>`` inverting input; currents into the inputs: ``i(vip<tag>)``,
    ``i(vin<tag>)``. The differential signal is +1/2 V on ``in_p`` and -1/2 V on ``in_n``; the inverting one is -1 V on
    ``in_n``.
    """
    corner = bench.corner
    lines = [
        "Vu u 0 dc 0 ac 1",
        *(f"Vx{name} x{name} 0 0" for name in SMALL_SIGNALS),
        f"Vcm b 0 {number(common_mode_v(bench))}",
        "Bcm cm b v=v(xcommon)*v(u)",
        "Bp p cm v=0.5*v(xdifferential)*v(u)",
        "Bq q cm v=-(0.5*v(xdifferential)+v(xinverting))*v(u)",
        f"Vt t 0 {number(corner.middle_v)}",
    ]
    rails = {}
    if bench.has_supply:
        rails = {"vdd": "vdd", "vss": "vss"}
        lines += [
            f"Vdd rdd 0 {number(corner.vdd_v)}",
            f"Vss rss 0 {number(corner.vss_v)}",
            "Bdd vdd rdd v=v(xvdd)*v(u)",
            "Bss vss rss v=v(xvss)*v(u)",
        ]
    for copy in bench.copies:
        k = copy.tag
        lines += [
            f"Lf{k} o{k} f{k} {number(HUGE_HENRY)}",
            f"Cf{k} f{k} 0 {number(HUGE_FARAD)}",
            f"Em{k} m{k} q f{k} t 1",
            f"Bn{k} h{k} m{k} v=v(xloop)*v(o{k},f{k})",
            f"Vin{k} h{k} n{k} 0",
            f"Vip{k} p p{k} 0",
            f"Bo{k} 0 o{k} i=v(xoutput)*v(u)",
            *(load_lines(bench, copy, f"o{k}") if loaded else []),
            bench.instance(copy, {"in_p": f"p{k}", "in_n": f"n{k}", "out": f"o{k}", **rails}),
        ]
    return lines


def drive(port: str = "", *, loop: float = 0.0) -> Alter:
    """A unit signal at one port of :func:`small_signal_lines`, the others off; ``loop`` of the output fed back."""
    values = {name: float(name == port) for name in SMALL_SIGNALS} | {"loop": loop}
    return Alter(tuple((f"vx{name}", value) for name, value in values.items()))
