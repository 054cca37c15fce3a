"""Op-amp cards after Boyle et al.: figures of a data sheet in, netlist and contract out.

Equations, limits and what differs from the original are in :mod:`analog_deq.netlists.boyle_design`.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from textwrap import wrap

from analog_deq.netlists.boyle_design import (
    CLAMP_EMISSION,
    CLAMP_V,
    SUPPLY_TOLERANCE,
    THERMAL_V,
    BoyleElements,
    boyle_elements,
)
from analog_deq.netlists.boyle_design import BoyleParameters as BoyleParameters
from analog_deq.netlists.deck import number


def boyle_card(parameters: BoyleParameters) -> tuple[str, str]:
    """(netlist, contract) texts of an op-amp cell with these figures. SpecError when no such card exists.

    >>> cir, toml = boyle_card(BoyleParameters(gbw_hz=1e6, slew_v_per_s=0.5e6, phase_margin_deg=65.0))
    >>> cir.splitlines()[-1]
    '.ends opamp_boyle'
    """
    return _netlist(parameters, boyle_elements(parameters)), _contract(parameters)


def write_boyle(parameters: BoyleParameters, folder: Path) -> Path:
    """Path of the contract, written with its netlist into ``folder``: NAME.toml and NAME.cir."""
    cir, toml = boyle_card(parameters)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{parameters.name}.cir").write_text(cir, encoding="utf-8")
    path = folder / f"{parameters.name}.toml"
    path.write_text(toml, encoding="utf-8")
    return path


def _netlist(p: BoyleParameters, e: BoyleElements) -> str:
    given = [
        f"{field.name}={getattr(p, field.name)!r}" for field in fields(p)[1:] if getattr(p, field.name) is not None
    ]
    saturation = math.exp(-CLAMP_V / (CLAMP_EMISSION * THERMAL_V))
    values = {
        **{field.name: getattr(e, field.name) for field in fields(e)}, "offset": p.offset_v,
        "g_stage": 1 / e.r_collector, "g_common": 10 ** (-p.cmrr_db / 20) / 2 / e.r_noise,
        "g_supply": 10 ** (-p.psrr_db / 20) / e.r_noise, "clamp": p.headroom_v + CLAMP_V,
        "i_rest": p.supply_current_a - e.i_tail, "g_out": 1 / e.ro1, "is_inner": e.i_tail * saturation,
        "is_outer": e.i_clip * saturation, "emission": CLAMP_EMISSION, "gap": CLAMP_V,
    }  # fmt: skip
    written = {key: number(value) for key, value in values.items()}
    return _NETLIST.format(name=p.name, given="\n".join(f"* {line}" for line in wrap(", ".join(given), 110)), **written)


def _contract(p: BoyleParameters) -> str:
    def supply(volts: float) -> str:
        low, high = sorted((volts * (1 - SUPPLY_TOLERANCE), volts * (1 + SUPPLY_TOLERANCE)))
        return f'{{ min = {low:.6g}, typ = {volts:.6g}, max = {high:.6g}, unit = "V" }}'

    drawn = _MISMATCH.format(sigma=number(p.offset_sigma_v)) if p.offset_sigma_v else 'mode = "none"\n'
    return _CONTRACT.format(
        name=p.name, a0=p.a0, gbw=p.gbw_hz, slew=p.slew_v_per_s, f2=p.second_pole_hz, supply=p.supply_current_a,
        reach=number(max(0.1, 6 * p.offset_sigma_v)), drawn=drawn, vdd=supply(p.vdd_v), vss=supply(p.vss_v),
    )  # fmt: skip


_NETLIST = """* {name}: Boyle op-amp macromodel, made by analog_deq/netlists/boyle.py from
{given}
.subckt {name} inp inn out vdd vss vos=0
* In series with in_p: noise (what the pair's own lacks of the stated density), offset, common mode, supplies.
Rnoise n 0 {r_noise}
Ios 0 n {{(vos+{offset})/{r_noise}}}
Gcp 0 n inp 0 {g_common}
Gcn 0 n inn 0 {g_common}
Gvdd 0 n vdd 0 {g_supply}
Gvss 0 n vss 0 {g_supply}
Eos b inp n 0 1
Rin inp inn {r_input} noisy=0
* Input pair and second pole.
Q1 c1 b e1 pair
Q2 c2 inn e2 pair
Re1 e1 e {r_emitter} noisy=0
Re2 e2 e {r_emitter} noisy=0
It e vss {i_tail}
Rc1 vdd c1 {r_collector} noisy=0
Rc2 vdd c2 {r_collector} noisy=0
C1 c1 c2 {c1}
* Interstage transconductance into the Miller node, which is clamped.
Ga a 0 c2 c1 {g_stage}
R2 a 0 {r2} noisy=0
Da a 0 inner
Db 0 a inner
C2 a m {c2}
* Second stage, output resistance, output clamps.
Gb m 0 a 0 {gb}
Ro2 m 0 {ro2} noisy=0
Ro1 m out {ro1} noisy=0
Vhigh vdd high {clamp}
Dhigh out high outer
Vlow low vss {clamp}
Dlow low out outer
* Class AB: the output current comes from the rail that gives it.
Bsupply vdd vss I={i_rest}+max(0,(v(m)-v(out))/{ro1})
Gsupply vss 0 m out {g_out}
.model pair npn is=1e-16 bf={beta}
.model inner d is={is_inner} n={emission} eg={gap} xti=0
.model outer d is={is_outer} n={emission} eg={gap} xti=0
.ends {name}
"""

_CONTRACT = """schema = 1

[cell]
name = "{name}"
role = "opamp"
netlist = "{name}.cir"
subckt = "{name}"
license = "GPL-3.0-or-later"
description = "Boyle macromodel: A0 {a0:.4g}, GBW {gbw:.4g} Hz, {slew:.4g} V/s, f2 {f2:.4g} Hz, {supply:.4g} A."
source = "analog_deq/netlists/boyle.py, after Boyle et al., IEEE J. Solid-State Circuits 9, 353 (1974)."
validity = "Supplies about node 0, +-10 %. No common-mode range or flicker noise, rejection flat over frequency."

[pins] # role pin = pin in the .subckt line
in_p = "inp"
in_n = "inn"
out = "out"
vdd = "vdd"
vss = "vss"

[params.vos]
description = "input offset of this instance, adds to in_p"
unit = "V"
default = 0.0
min = -{reach}
max = {reach}

[mismatch]
{drawn}
[noise]
native = true

[conditions]
vdd = {vdd}
vss = {vss}
temp = {{ min = -40.0, typ = 27.0, max = 125.0, unit = "C" }}
"""

_MISMATCH = """mode = "params"

[mismatch.params.vos]
distribution = "normal"
sigma = {sigma}
unit = "V"
relative = false
"""
