"""The causes an error is shared out to, each with the switch that turns it off: one entry a cause.

``design``: nominal, known to training, which has made the weights fit it; measured against ideal mathematics.
``die``: differs from die to die; measured against the nominal network, which is what software promises.
``read``: of reading the states once, at a time; measured against the equilibrium. ``model``: the proxy itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from analog_deq.attribution.cells import at_best, ideal_activation, without_mismatch
from analog_deq.attribution.setting import Setting

Group = Literal["design", "die", "read", "model"]
Switch = Callable[[Setting], Setting]
NetlistSwitch = Callable[[Setting], Setting | None]

FINE_BITS = 24
FINE_TRIM_BITS = 16
TINY_OHM = 1e-3
SYNAPSE = "synapse"


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of error.

    ``what`` says what it is in the circuit, ``fix`` what a designer would do about it. ``off`` switches it off in the
    proxy's description; ``netlist`` in the cells as well, None there when these cells have no such switch. ``present``:
    whether the network has it at all.
    """

    name: str
    group: Group
    what: str
    fix: str
    off: Switch
    netlist: NetlistSwitch | None = None
    present: Callable[[Setting], bool] = lambda setting: True


def _shape(setting: Setting) -> Setting:
    return replace(setting, ideal_shape=True)


def _shape_netlist(setting: Setting) -> Setting | None:
    assert setting.cells is not None
    cell = ideal_activation(setting.design.neuron, setting.cells.driver)
    return setting.with_cells(activation=cell) if "out_n" in setting.cells.activation.contract.pins else None


def _opamp_at_best(*highest: str) -> NetlistSwitch:
    def switch(setting: Setting) -> Setting | None:
        opamp = setting.cells.opamp if setting.cells is not None else None
        ideal = None if opamp is None else at_best(opamp, highest=highest)
        return None if ideal is None else setting.with_cells(opamp=ideal)

    return switch


def _sources(setting: Setting) -> Setting:
    return setting.changed("crossbar", r_dac_ohm=TINY_OHM).fitted("driver", r_out_ohm=TINY_OHM)


def _sources_netlist(setting: Setting) -> Setting | None:
    assert setting.cells is not None
    driver = at_best(setting.cells.driver, lowest=("ro",))
    if driver is None:
        return None
    return setting.with_cells(driver=driver).fitted("driver", r_out_ohm=driver.contract.params["ro"].min)


def _analogue(setting: Setting) -> Setting:
    assert setting.analogue is not None, "absent without them"
    return replace(setting, g_pos=setting.analogue[0], g_neg=setting.analogue[1])


def _unbent(setting: Setting) -> Setting:
    plain = setting.proxy.synapse.model_copy(update={"values": []})
    return replace(setting, proxy=setting.proxy.model_copy(update={"synapse": plain}))


def _centred(setting: Setting) -> Setting:
    found = setting.fitted("integrator", s0_v=0.0)
    return found.fitted("integrator", i0_a=0.0) if "i0_a" in found.proxy.integrator.values else found


def _fast(setting: Setting) -> Setting:
    tau = setting.proxy.tau.values
    slow = tau["tau_load_s_per_siemens"] / setting.proxy.r_feedback_ohm  # 1 / (2 pi GBW)
    return setting.fitted("tau", tau0_s=tau["tau0_s"] - slow, tau_load_s_per_siemens=0.0)


def same(setting: Setting) -> Setting:
    """Nothing more to do in the cells."""
    return setting


DESIGN_CAUSES: tuple[Cause, ...] = (
    Cause(
        "sigma shape", "design", "the activation's curve is not a tanh", "another stage, or keep training on its curve",
        _shape, _shape_netlist,
    ),
    Cause(
        "finite gain", "design", "the op-amps' DC gain", "more gain",
        lambda s: s.fitted("integrator", inverse_a0=0.0), _opamp_at_best("a0"),
        lambda s: s.proxy.integrator.values["inverse_a0"] != 0.0,
    ),
    Cause(
        "wires", "design", "resistance of the array's lines", "wider or thicker lines, both ends driven, tiles",
        lambda s: s.changed("crossbar", r_line_ohm=0.0), same, lambda s: s.design.crossbar.r_line_ohm > 0.0,
    ),
    Cause(
        "source resistance", "design", "output resistance of drivers and input DACs", "stronger drivers",
        _sources, _sources_netlist,
    ),
    Cause(
        "levels", "design", "conductances rounded to the device's levels", "more levels, or scale R_F to fill them",
        _analogue, same, lambda s: s.analogue is not None and s.design.crossbar.levels > 0,
    ),
    Cause(
        "DAC", "design", "inputs rounded to the DACs' codes", "more DAC bits",
        lambda s: s.changed("converters", dac_bits=FINE_BITS), same,
    ),
    Cause(
        "synapse law", "design", "the devices show another conductance than programmed", "program by the law",
        _unbent, None, lambda s: bool(s.proxy.synapse.values),
    ),
    Cause(
        "systematic offset", "design", "the integrators' own input offset and current", "a balanced input stage",
        _centred, None,
        lambda s: abs(s.proxy.integrator.values["s0_v"]) > 1e-9 or s.proxy.input_offset_a != 0.0,
    ),
)  # fmt: skip
"""Nominal imperfections. In a netlist, switches of the design alone (wires, levels, converters) need no cell."""

READ_CAUSES: tuple[Cause, ...] = (
    Cause(
        "settling window", "read", "states read before the slowest have settled", "read later",
        lambda s: replace(s, read_s=None), same,
    ),
    Cause(
        "GBW", "read", "op-amp bandwidth, which adds to every time constant", "more bandwidth",
        _fast, _opamp_at_best("gbw", "f2"),
    ),
    Cause(
        "slew", "read", "op-amp slew rate", "more tail current",
        lambda s: replace(s, slew_v_per_s=None), _opamp_at_best("sr"), lambda s: s.slew_v_per_s is not None,
    ),
    Cause(
        "noise", "read", "thermal and 1/f noise of one read", "average reads, or a longer read window",
        lambda s: replace(s, noisy=False), None, lambda s: "noise" not in s.proxy.not_modelled,
    ),
    Cause(
        "ADC", "read", "readings rounded to the ADCs' codes", "more ADC bits",
        lambda s: s.changed("converters", adc_bits=FINE_BITS), None,
    ),
)  # fmt: skip

TRIM_STEP = Cause(
    "trim step", "die", "offset currents rounded to the trim DAC's codes", "more trim bits",
    lambda s: s.changed("trim", bits=FINE_TRIM_BITS), same,
)  # fmt: skip

MODEL_CAUSE = Cause(
    "proxy error", "model", "the circuit's equilibrium is not the proxy's", "a finer calibration", same, None
)
"""Measured, not computed: the nominal network in ngspice against the proxy."""

_KNOWN: dict[str, tuple[str, str]] = {
    "opamp.vos": ("input offset of the op-amps", "auto-zero, or larger input devices"),
    "integrator.vos": ("input offset of the integrators", "auto-zero, or larger input devices"),
    "driver.vos": ("offset of the drivers", "larger devices in the driver"),
    "activation.dvt": ("threshold mismatch of the activation's pair", "larger input pair"),
    "activation.drl": ("load mismatch of the activation", "larger or laser-matched load resistors"),
    "activation.diss": ("tail-current mismatch of the activation", "larger current mirrors"),
    "r_feedback": ("mismatch of R_F", "larger or trimmed resistors"),
    "c_feedback": ("mismatch of C_F", "larger capacitors"),
    SYNAPSE: ("programming and mismatch errors of the conductances", "write and verify, or larger devices"),
    "vos_v": ("offset of the integrators, as fitted", "auto-zero, or larger input devices"),
    "sat": ("saturation level of the activation, as fitted", "larger current mirrors"),
    "in_scale": ("gain of the activation, as fitted", "larger input pair"),
    "in_offset": ("input offset of the activation, as fitted", "larger input pair"),
    "out_offset": ("output offset of activation and driver, as fitted", "larger loads and drivers"),
    "tau": ("spread of the time constants, as fitted", "larger capacitors"),
}


def mismatch_cause(name: str) -> Cause:
    """The cause of one mismatch parameter: a neuron's, keyed ``slot.parameter``, a passive part, or the synapses'.

    Example:
        >>> mismatch_cause("opamp.vos").what
        'input offset of the op-amps'
    """
    what, fix = _KNOWN.get(name, (f"mismatch parameter {name}", "larger or better matched devices"))
    group: Group = "read" if name in ("c_feedback", "tau") else "die"  # acts in time only
    return Cause(
        name, group, what, fix, lambda s: replace(s, mismatch=s.mismatch - {name}), lambda s: _matched(s, name)
    )


def _matched(setting: Setting, name: str) -> Setting | None:
    cells = setting.cells
    assert cells is not None, "only a netlist has cells"
    if name == SYNAPSE:
        equal = cells.synapse
        for parameter in equal.contract.mismatch.params:
            equal = without_mismatch(equal, parameter)
        off = setting.with_cells(synapse=equal)
        return replace(off, design=off.design.model_copy(update={"programming": None}))
    if name in cells.passives:
        return setting.changed("mismatch", **{name: 0.0})
    slot, _, parameter = name.partition(".")
    cell = cells.named.get(slot)
    if cell is None or parameter not in cell.contract.mismatch.params:
        return None
    off = setting.with_cells(**{slot: without_mismatch(cell, parameter)})
    if parameter == "vos" and slot in ("opamp", "integrator"):  # what an auto-zero leaves of it goes with it
        off = replace(off, design=off.design.model_copy(update={"autozero": None}))
    return off


def switched_off(setting: Setting, *causes: Cause) -> Setting:
    """``setting`` as the proxy sees it without ``causes``."""
    for cause in causes:
        setting = cause.off(setting)
    return setting


def netlist_without(setting: Setting, cause: Cause) -> Setting | None:
    """``setting`` whose netlist lacks ``cause`` as well; None where these cells have no switch for it."""
    if cause.netlist is None or setting.cells is None:
        return None
    return cause.netlist(cause.off(setting))
