"""Fixed drawings of the shipped cells, and the box that any other cell is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analog_deq.netlists.contract import Cell
from analog_deq.verify.report.schematics.pen import elm, sheet, to_svg

_LEFT, _RIGHT = ("in", "in_p", "in_n", "ref", "row"), ("out", "out_p", "out_n", "col")


def _opamp(label: str) -> str:
    d = sheet()
    amp = d.add(elm.Opamp(leads=True))
    d.add(elm.Dot(open=True).at(amp.in1).label("in_n", "left"))
    d.add(elm.Dot(open=True).at(amp.in2).label("in_p", "left"))
    d.add(elm.Dot(open=True).at(amp.out).label("out", "right"))
    _rails(d, amp)
    return to_svg(d, label)


def _feedback(*parts: str) -> Callable[[str], str]:
    """An op-amp with ``parts`` (of R, C) from its output to its inverting input, the other one at ``ref``."""

    def draw(label: str) -> str:
        d = sheet()
        amp = d.add(elm.Opamp(leads=True))
        d.add(elm.Dot(open=True).at(amp.in2).label("ref", "left"))
        d.add(elm.Line().at(amp.in1).left(0.7))
        node = d.here
        d.add(elm.Dot().at(node))
        d.add(elm.Line().at(node).left(0.7))
        d.add(elm.Dot(open=True).label("in", "left"))
        loop(d, node, amp.out, parts)
        d.add(elm.Line().at(amp.out).right(0.7))
        d.add(elm.Dot(open=True).label("out", "right"))
        _rails(d, amp)
        return to_svg(d, label)

    return draw


def loop(d: Any, node: Any, out: Any, parts: tuple[str, ...], values: Mapping[str, str] | None = None) -> None:
    """``parts`` in parallel above, from ``node`` to ``out``."""
    makers = {"R": elm.Resistor, "C": elm.Capacitor}
    d.add(elm.Dot().at(out))
    for k, part in enumerate(parts):
        height = 1.9 + 1.15 * k
        begin = 0.0 if k == 0 else height - 1.15
        d.add(elm.Line().at((node[0], node[1] + begin)).up(height - begin))
        d.add(makers[part]().right().tox(out).label((values or {}).get(part, part.lower()), "top"))
        d.add(elm.Line().down().toy(out[1] if k == 0 else node[1] + begin))


def _pair(second_gate: str) -> Callable[[str], str]:
    """A differential pair with resistive loads and a tail current, its second gate at ``second_gate``."""

    def draw(label: str) -> str:
        d = sheet()
        left = d.add(elm.NFet().theta(0).reverse().anchor("source").at((0, 0)))
        right = d.add(elm.NFet().theta(0).anchor("source").at((3.4, 0)))
        sides = ((left, "Ra", "in", "left", "out_n"), (right, "Rb", second_gate, "right", "out_p"))
        for fet, load, pin, side, out in sides:
            d.add(elm.Ground().at(fet.gate) if pin == "0" else elm.Dot(open=True).at(fet.gate).label(pin, side))
            d.add(elm.Line().at(fet.drain).up(0.4))
            d.add(elm.Dot().at(d.here))
            node = d.here
            d.add(elm.Line().at(node).right(0.6) if side == "left" else elm.Line().at(node).left(0.6))
            d.add(elm.Dot(open=True).label(out, "right" if side == "left" else "left"))
            d.add(elm.Resistor().at(node).up(1.6).label(load, "top" if side == "left" else "bottom"))
        top = d.here
        d.add(elm.Line().at(top).tox(left.source))
        d.add(elm.Vdd().at((1.7, top[1])).label("vdd"))
        d.add(elm.Line().at(left.source).to(right.source))
        d.add(elm.SourceI().at((1.7, 0)).down(1.6).label("iss", "bottom"))
        d.add(elm.Vss().label("vss"))
        return to_svg(d, label)

    return draw


def _limiter(label: str) -> str:
    d = sheet()
    d.add(elm.Dot(open=True).label("in", "left"))
    d.add(elm.Resistor().right(2.4).label("r"))
    node = d.here
    d.add(elm.Dot().at(node))
    d.add(elm.Diode().at(node).down(1.9))
    d.add(elm.Ground())
    d.add(elm.Line().at(node).right(1.4))
    d.add(elm.Dot())
    other = d.here
    d.add(elm.Diode().at((other[0], other[1] - 1.9)).up(1.9))
    d.add(elm.Ground().at((other[0], other[1] - 1.9)))
    d.add(elm.Line().at(other).right(0.8))
    d.add(elm.Dot(open=True).label("out_p", "right"))
    return to_svg(d, label)


def _driver(label: str) -> str:
    d = sheet()
    pins = [
        elm.IcPin(name="in_p", side="left", anchorname="inp"), elm.IcPin(name="in_n", side="left", anchorname="inn"),
        elm.IcPin(name="+", side="right", anchorname="outp"), elm.IcPin(name="-", side="right", anchorname="outn"),
    ]  # fmt: skip
    box = d.add(elm.Ic(pins=list(reversed(pins)), size=(2.6, 2.2), lblsize=11).label("×1, one pole", "top"))
    for anchor in (box.inp, box.inn):
        d.add(elm.Dot(open=True).at(anchor))
    for anchor, name in ((box.outp, "out_p"), (box.outn, "out_n")):
        d.add(elm.Resistor().at(anchor).right(1.8).label("ro"))
        d.add(elm.Dot(open=True).label(name, "right"))
    return to_svg(d, label)


def _synapse(part: type, text: str) -> Callable[[str], str]:
    def draw(label: str) -> str:
        d = sheet()
        d.add(elm.Dot(open=True).label("row", "left"))
        d.add(part().right(3.0).label(text, "top", ofst=0.25))
        d.add(elm.Dot(open=True).label("col", "right"))
        return to_svg(d, label)

    return draw


def draw_box(cell: Cell, label: str) -> str:
    """A cell as a box: the role's pin names inside, the netlist's own outside."""
    d = sheet()
    pins = []
    for role, own in reversed(cell.contract.pins.items()):
        side = "left" if role in _LEFT else "right" if role in _RIGHT else "top" if role == "vdd" else "bottom"
        pins.append(elm.IcPin(name=role, pin=own if own != role else "", side=side, anchorname=role))
    count = max(sum(pin.side == side for pin in pins) for side in ("left", "right"))
    d.add(elm.Ic(pins=pins, size=(3.2, 0.8 + 0.8 * count), lblsize=11, plblsize=9))
    return to_svg(d, label)


def _rails(d: Any, amp: Any) -> None:
    d.add(elm.Line().at(amp.vd).up(0.35))
    d.add(elm.Vdd().label("vdd", fontsize=9))
    d.add(elm.Line().at(amp.vs).down(0.35))
    d.add(elm.Vss().label("vss", fontsize=9))


_MEMRISTOR = _synapse(elm.Memristor, "g")
TEMPLATES: Mapping[str, Callable[[str], str]] = {
    "opamp_macro": _opamp, "opamp_boyle": _opamp, "opamp_2stage": _opamp, "opamp_sky130": _opamp, "ota_5t": _opamp,
    "ota_sky130": _opamp, "integrator_rc": _feedback("R", "C"), "summer_tia": _feedback("R"), "diffpair": _pair("0"),
    "pair_2in": _pair("in2"), "diode_limiter": _limiter, "driver_macro": _driver,
    "resistor_synapse": _synapse(elm.ResistorVar, "g (1 + dg)"), "sinh_synapse": _MEMRISTOR, "pcm": _MEMRISTOR,
    "rram_hfox": _MEMRISTOR, "rram_hfox_1day": _MEMRISTOR, "rram_cmo": _MEMRISTOR,
}  # fmt: skip
"""Drawings of shipped cells, by the file name of their contract."""
