"""What the curves of the measurements are called on a page: title, axes with their SI units, scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

UNPREFIXED = frozenset({"", "1", "dB", "deg", "%", "degC", "V/V"})
"""Units written beside the label; values of any other unit get SI prefixes."""


@dataclass(frozen=True, slots=True)
class CurveAxes:
    """How curves of one name are drawn. ``x``, ``y``: label and unit; ``together``: all conditions in one figure."""

    title: str
    x: tuple[str, str]
    y: tuple[str, str]
    log_y: bool = False
    together: bool = False


_FREQUENCY = ("frequency", "Hz")
_TIME = ("time", "s")
_OHM = ("impedance", "ohm")
_DENSITY = ("noise density", "V/rtHz")
_OUTPUT = ("output", "V")
_STEPS = CurveAxes("Step responses", _TIME, _OUTPUT, together=True)
_TRANSRESISTANCE = CurveAxes("Output against input current", ("input current", "A"), _OUTPUT)
_RESPONSE = CurveAxes("Small-signal response", _FREQUENCY, ("output over input", "V/V"), log_y=True, together=True)
_CURRENT_RESPONSE = CurveAxes("Small-signal response", _FREQUENCY, ("output per ampere", "ohm"), True, together=True)

AXES: Mapping[str, CurveAxes] = {
    "open_loop_gain_db": CurveAxes("Open-loop gain", _FREQUENCY, ("gain", "dB")),
    "open_loop_phase_deg": CurveAxes("Open-loop phase", _FREQUENCY, ("phase", "deg")),
    "output_swing": CurveAxes("Output swing, unity feedback", ("wanted output", "V"), _OUTPUT),
    "common_mode_error": CurveAxes("Error over the common mode", ("common-mode input", "V"), ("output error", "V")),
    "step_response": CurveAxes("Step response", _TIME, _OUTPUT),
    **{f"{role} step_response": _STEPS for role in ("activation", "driver", "integrator", "summer")},
    "psrr_vdd_db": CurveAxes("Rejection of the positive supply", _FREQUENCY, ("PSRR", "dB")),
    "psrr_vss_db": CurveAxes("Rejection of the negative supply", _FREQUENCY, ("PSRR", "dB")),
    "cmrr_db": CurveAxes("Common-mode rejection", _FREQUENCY, ("CMRR", "dB")),
    "input_noise_density": CurveAxes("Input noise density", _FREQUENCY, _DENSITY, log_y=True),
    "unity_noise_density": CurveAxes("Output noise density, unity feedback", _FREQUENCY, _DENSITY, log_y=True),
    "output_noise_density": CurveAxes("Output noise density", _FREQUENCY, _DENSITY, log_y=True, together=True),
    "output_impedance": CurveAxes("Output impedance", _FREQUENCY, _OHM, log_y=True, together=True),
    "input_impedance": CurveAxes("Input impedance", _FREQUENCY, _OHM, log_y=True, together=True),
    "transfer": CurveAxes("Transfer curve", ("input", "V"), _OUTPUT),
    "integrator transfer": _TRANSRESISTANCE,
    "summer transfer": _TRANSRESISTANCE,
    "output_against_temperature": CurveAxes(
        "Output against temperature", ("temperature", "degC"), _OUTPUT, together=True
    ),
    "response": _RESPONSE,
    "integrator response": _CURRENT_RESPONSE,
    "summer response": _CURRENT_RESPONSE,
    "transresistance": CurveAxes("Transresistance", _FREQUENCY, ("transresistance", "ohm"), log_y=True),
    "conductance": CurveAxes("Conductance", ("programmed", "S"), ("measured", "S")),
    "read_current": CurveAxes("Read current", ("read voltage", "V"), ("current", "A"), together=True),
    "relative_noise_density": CurveAxes(
        "Read noise density over the read current", _FREQUENCY, ("density", "1/rtHz"), log_y=True, together=True
    ),
    "aged_conductance": CurveAxes(
        "Conductance after programming", ("time since programming", "s"), ("conductance", "S"), together=True
    ),
}
"""By the name of the curve, or by role and name where the role decides what is plotted."""
