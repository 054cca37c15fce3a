"""The network as a block diagram, and one neuron with its passives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analog_deq.netlists.contract import Cell
from analog_deq.spec import Neuron
from analog_deq.units import engineering
from analog_deq.verify.found import Drawing
from analog_deq.verify.report.schematics.cells import loop
from analog_deq.verify.report.schematics.pen import elm, flow, sheet, to_svg


def draw_network(sizes: tuple[int, int, int]) -> Drawing:
    """Inputs through DACs into the crossbar, its columns into the neurons, their outputs back onto its rows."""
    inputs, states, outputs = sizes
    d = sheet()
    dac = d.add(flow.Box(w=2.2, h=1.6).at((0, 0)).anchor("W").label(f"{inputs} inputs\nDACs", fontsize=13))
    d.add(flow.Arrow().at(dac.E).right(1.6).label("± rows", "top", fontsize=12))
    bar = d.add(
        flow.Box(w=3.6, h=3.4)
        .anchor("W")
        .label(f"crossbar\n{2 * (inputs + states + 1)} rows\n{states} columns", fontsize=13)
    )
    d.add(flow.Arrow().at(bar.E).right(1.6).label("currents", "top", fontsize=12))
    cell = d.add(flow.Box(w=2.6, h=1.5).anchor("W").label(f"{states} neurons", fontsize=13))
    d.add(flow.Arrow().at(cell.E).right(1.5).label("z", "top", fontsize=12))
    adc = d.add(flow.Box(w=3.0, h=1.5).anchor("W").label(f"ADCs, readout\n{outputs} outputs", fontsize=13))
    low = bar.S[1] - 0.7
    middle = (cell.E[0] + adc.W[0]) / 2
    d.add(elm.Dot().at((middle, cell.E[1])))
    d.add(elm.Line().at((middle, cell.E[1])).toy(low))
    d.add(elm.Line().tox(bar.S[0]).label("± z back onto the rows", "bottom", fontsize=12))
    d.add(flow.Arrow().toy(bar.S[1]))
    title = "The network"
    caption = (
        f"{inputs} inputs, a bias and {states} states drive two rows each, +v and -v; a weight is the difference of "
        f"two conductances. Each column's current settles one neuron; {outputs} outputs are read from the states."
    )
    return Drawing("network", title, to_svg(d, f"{title}. {caption}"), caption)


def draw_neuron(cells: Mapping[str, Cell], neuron: Neuron) -> Drawing:
    """The leaky integrator at a column's end, the activation and the driver of the neuron's two rows."""
    d = sheet()
    inner = cells.get("integrator")
    if inner is None:
        last = _around_opamp(d, neuron)
    else:
        d.add(elm.Dot(open=True).label("column", "left", fontsize=13))
        d.add(elm.Line().right(0.8))
        box = d.add(flow.Box(w=2.6, h=1.5).anchor("W").label(f"integrator\n{inner.name}", fontsize=13))
        last = box.E
    d.add(flow.Arrow().at(last).right(1.1).label("v", "top", fontsize=13))
    act = d.add(flow.Box(w=2.6, h=1.5).anchor("W").label(f"activation\n{cells['activation'].name}", fontsize=13))
    d.add(flow.Arrow().at(act.E).right(0.9))
    driver = d.add(flow.Box(w=2.6, h=1.5).anchor("W").label(f"driver\n{cells['driver'].name}", fontsize=13))
    for sign, name in ((1, "row + z"), (-1, "row - z")):
        d.add(elm.Line().at((driver.E[0], driver.E[1] + 0.4 * sign)).right(0.8))
        d.add(elm.Dot(open=True).label(name, "right", fontsize=13))
    title = "One neuron"
    tau = engineering(neuron.r_feedback_ohm * neuron.c_feedback_f, "s", 3)
    around = f"R_F and C_F around {cells['opamp'].name}: " if inner is None else ""
    caption = (
        f"{around}v = -R_F times the column's current, settling with R_F C_F = {tau}; one unit of z is "
        f"{engineering(neuron.z_unit_v, 'V', 3)} on the rows, one of h {engineering(neuron.v_unit_v, 'V', 3)} at v."
    )
    return Drawing("neuron", title, to_svg(d, f"{title}. {caption}"), caption)


def _around_opamp(d: Any, neuron: Neuron) -> Any:
    amp = d.add(elm.Opamp(leads=True))
    d.add(elm.Line().at(amp.in2).down(0.5))
    d.add(elm.Ground())
    d.add(elm.Line().at(amp.in1).left(0.9))
    node = d.here
    d.add(elm.Dot().at(node))
    values = {
        "R": f"R_F {engineering(neuron.r_feedback_ohm, 'Ω', 3)}", "C": f"C_F {engineering(neuron.c_feedback_f, 'F', 3)}"
    }  # fmt: skip
    loop(d, node, amp.out, ("R", "C"), values)
    if neuron.c_input_f > 0:
        text = f"C_IN {engineering(neuron.c_input_f, 'F', 3)}"
        d.add(elm.Capacitor().at(node).down(1.9).label(text, "top", fontsize=12))
        d.add(elm.Ground())
    d.add(elm.Line().at(node).left(0.8))
    d.add(elm.Dot(open=True).label("column", "left", fontsize=13))
    return amp.out
