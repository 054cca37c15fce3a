"""Designing an op-amp macromodel after Boyle et al.: a data sheet's figures in, element values out.

Topology (Boyle, Cohn, Pederson, Solomon, IEEE J. Solid-State Circuits 9 (1974) 353): a degenerated bipolar pair with
its tail current, the second pole across the collectors, the interstage transconductance GA, the Miller capacitor C2
round the second stage, an output stage with clamps. All of it obeys closed forms, so a card knows its own answers:

    GBW = GA / (2 pi C2)       SR = I_tail / C2       f2 = 1 / (4 pi R_C C1)

with GA the transconductance from input to Miller node, GA = a / (r_e + R_E) with a = beta / (beta + 1), and C2 counted
with the factor 1 + 1/A2 of a second stage of gain A2. Their ratio SR / GBW is 2 pi I_tail / GA, and a bipolar pair
has I_tail / GA >= 2 kT/q: a slew rate below 0.325 V x GBW cannot be built and is refused.

What differs from the original: the tail takes half the supply current; the supply currents are complete (class AB);
noise, offset, common mode and supplies act in series with in_p, so that none passes the slew limit by (Boyle's GCM
does); the clamps are steep diodes (n = 0.1) whose drop of 0.1 V does not move with temperature. Node 0 is the middle
of the supplies. Not modelled: input common-mode range, flicker noise, rejection falling with frequency, temperature
other than that of the pair. ngspice's gmin adds about 1e-12 S times the supply to the bias current.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from analog_deq.errors import SpecError

KELVIN = 300.15
CHARGE = 1.602176634e-19
BOLTZMANN = 1.380649e-23
THERMAL_V = BOLTZMANN * KELVIN / CHARGE

PAIR_DROP_V = 0.1
"""Drop of the full tail current over a collector resistor."""
CLAMP_V = 0.1
"""Drop of a clamp diode at its full current. Equal to its gap, which makes it independent of temperature."""
CLAMP_EMISSION = 0.1
OVERDRIVE = 1.5
"""Open-circuit voltage of the clamped second stage, over the largest swing; it sets the short-circuit current."""
SUPPLY_TOLERANCE = 0.1
DEFAULT_PHASE_MARGIN_DEG = 70.0
CLAMP_GMIN = 2e-12
"""Siemens ngspice adds across the two diodes of the interstage clamp."""


@dataclass(frozen=True, slots=True)
class BoyleParameters:
    """Figures of one op-amp at 27 degrees, SI units. The defaults are those of the shipped ``opamp_boyle``.

    ``a0`` in V/V; the slew rate holds for both edges; give ``f2_hz``, the second pole, or ``phase_margin_deg`` at the
    unity crossing (70 when neither is given). ``r_in_ohm`` is differential; ``i_bias_a`` flows into each input;
    ``offset_v`` adds to in_p in every instance and ``offset_sigma_v`` is its spread over instances; the output reaches
    ``headroom_v`` from either supply; ``noise_v_per_rthz`` is white, at the input; ``psrr_db`` holds for each supply.
    Short-circuit current: 1.5 (largest swing at supplies 10 % up) / r_out.
    """

    name: str = "opamp_boyle"
    a0: float = 1e4
    gbw_hz: float = 200e6
    slew_v_per_s: float = 200e6
    f2_hz: float | None = None
    phase_margin_deg: float | None = None
    r_out_ohm: float = 50.0
    r_in_ohm: float = 10e6
    i_bias_a: float = 1e-9
    offset_v: float = 0.0
    offset_sigma_v: float = 1e-3
    supply_current_a: float = 200e-6
    headroom_v: float = 0.2
    noise_v_per_rthz: float = 5e-9
    cmrr_db: float = 80.0
    psrr_db: float = 80.0
    vdd_v: float = 0.9
    vss_v: float = -0.9

    def __post_init__(self) -> None:
        if re.fullmatch(r"[a-z]\w{0,39}", self.name) is None:
            _refuse("name", self.name, "a small letter, then letters, digits and _")
        signed = {"offset_v", "offset_sigma_v", "vss_v", "cmrr_db", "psrr_db"}
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and (field.name in signed or value > 0)):
                _refuse(field.name, value, f"a finite number{'' if field.name in signed else ' above 0'}")
        if self.offset_sigma_v < 0:
            _refuse("offset_sigma_v", self.offset_sigma_v, "at least 0")
        if self.vss_v >= 0:
            _refuse("vss_v", self.vss_v, "below 0; node 0 is the middle of the supplies")
        if self.f2_hz is not None and self.phase_margin_deg is not None:
            _refuse("f2_hz", self.f2_hz, "left out when phase_margin_deg is given")
        if self.phase_margin_deg is not None and not 20 <= self.phase_margin_deg <= 89:
            _refuse("phase_margin_deg", self.phase_margin_deg, "20 to 89 degrees, for an op-amp of two poles")

    @property
    def second_pole_hz(self) -> float:
        """``f2_hz``, or the pole that gives the phase margin.

        With t = tan(90 deg - PM) the unity crossing lies at f_u = GBW / sqrt(1 + t^2), and f2 = f_u / t.
        """
        if self.f2_hz is not None:
            return self.f2_hz
        t = math.tan(math.radians(90 - (self.phase_margin_deg or DEFAULT_PHASE_MARGIN_DEG)))
        return self.gbw_hz / math.sqrt(1 + t * t) / t


@dataclass(frozen=True, slots=True)
class BoyleElements:
    """Element values of a card, SI. ``ga`` counts from the input to the Miller node, ``c2`` is the capacitor itself."""

    i_tail: float
    beta: float
    r_emitter: float
    r_collector: float
    c1: float
    ga: float
    c2: float
    a2: float
    r2: float
    gb: float
    ro1: float
    ro2: float
    r_noise: float
    r_input: float
    i_clip: float


def boyle_elements(parameters: BoyleParameters) -> BoyleElements:
    """Element values that make a card with these figures. SpecError, with the mend, when no such card exists."""
    p = parameters
    i_tail = p.supply_current_a / 2
    swing = (1 + SUPPLY_TOLERANCE) * max(p.vdd_v, -p.vss_v) - p.headroom_v
    if (1 - SUPPLY_TOLERANCE) * min(p.vdd_v, -p.vss_v) <= p.headroom_v:
        _refuse("headroom_v", p.headroom_v, f"less than the smaller supply less 10 % ({p.vdd_v:g}, {p.vss_v:g} V)")
    beta = i_tail / 2 / p.i_bias_a - 1
    if beta < 10:
        _refuse("i_bias_a", p.i_bias_a, f"at most {i_tail / 22:.3g} A: a tenth of the pair's {i_tail / 2:.3g} A each")
    alpha = beta / (beta + 1)
    ga = 2 * math.pi * p.gbw_hz * alpha * i_tail / p.slew_v_per_s
    r_e = THERMAL_V / (i_tail / 2)
    r_emitter = alpha / ga - r_e
    if r_emitter <= 1e-3 * r_e:
        least = 4 * math.pi * THERMAL_V * p.gbw_hz * 1.001
        _refuse("slew_v_per_s", p.slew_v_per_s, f"at least {least:.4g}: a bipolar pair slews 4 pi kT/q = 0.325 V x GBW")
    a2 = OVERDRIVE * swing / CLAMP_V
    c2 = alpha * i_tail / p.slew_v_per_s / (1 + 1 / a2)
    r2 = p.a0 / (ga * a2)
    if r2 * CLAMP_GMIN > 0.01:
        _refuse("a0", p.a0, f"at most {0.01 / CLAMP_GMIN * ga * a2:.3g}, or more supply current: ngspice's gmin limits")
    collector = 4 * BOLTZMANN * KELVIN / (alpha * r_e) * (r_e + (1 - alpha) * r_emitter) ** 2
    floor = collector + 4 * CHARGE * p.i_bias_a * r_emitter**2  # shot noise of both collectors and both bases
    spare = p.noise_v_per_rthz**2 - floor
    if spare <= 0.02 * floor:
        mend = (
            f"above {math.sqrt(1.02 * floor):.3g}, the pair's own at this supply current; or raise the supply current"
        )
        _refuse("noise_v_per_rthz", p.noise_v_per_rthz, mend)
    r_pair = 2 * (beta + 1) * (r_e + r_emitter)
    if p.r_in_ohm >= r_pair:
        _refuse("r_in_ohm", p.r_in_ohm, f"below {r_pair:.3g}, the pair's own at this bias current; or lower i_bias_a")
    ro2 = min(p.r_out_ohm / 2, a2 / (50 * ga))  # the zero GB / (2 pi C2) lies at 50 GBW or above
    return BoyleElements(
        i_tail=i_tail, beta=beta, r_emitter=r_emitter, r_collector=PAIR_DROP_V / i_tail,
        c1=i_tail / PAIR_DROP_V / (4 * math.pi * p.second_pole_hz), ga=ga, c2=c2, a2=a2, r2=r2, gb=a2 / ro2,
        ro1=p.r_out_ohm - ro2, ro2=ro2, r_noise=spare / (4 * BOLTZMANN * KELVIN),
        r_input=1 / (1 / p.r_in_ohm - 1 / r_pair), i_clip=(OVERDRIVE - 1) * swing / p.r_out_ohm,
    )  # fmt: skip


def _refuse(name: str, value: object, mend: str) -> None:
    raise SpecError(f"op-amp parameter {name} = {value!r}: must be {mend}")
