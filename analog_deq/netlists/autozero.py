"""An op-amp with an auto-zero phase, its switch a transistor: what a design's ``[autozero]`` stands for.

Before ``zero_s`` a switch puts the op-amp in unity feedback and a capacitor in its inverting path takes its offset;
then the switch opens, and the capacitor joins the summing node. Only transients know of the phases: an operating point
of this cell is the one of its zeroing phase, so equilibria use the op-amp itself with what is left of its offset.
"""

from __future__ import annotations

from pathlib import Path

from analog_deq.netlists.deck import number
from analog_deq.resources import shipped

SWITCH_SIGMA = 0.02
"""Standard deviation of the switch's width against its dummy's, relative."""
HIGH_V, LOW_V = 0.9, -0.9
EDGE_S, PLATE_DELAY_S = 1e-9, 5e-9

CIRCUIT = """\
* opamp_autozero: opamp_macro whose offset is stored on ch until zero_s; ch then stands between inn and its input.
* M1 closes the loop while it stores, M2 is its half-size dummy; both on the card of diffpair.
* The plate at the summing node is switched later, so its switches inject nothing that stays.
.subckt opamp_autozero inp inn out vdd vss vos=0 dw=0 ch={hold} zero_s={zero}
.include opamp_macro.cir
X1 inp n out vdd vss opamp_macro vos={{vos}}
Ch p n {{ch}}
Vc ck 0 PULSE({high} {low} {{zero_s}} {edge} {edge} 1 2)
Vb cb 0 PULSE({low} {high} {{zero_s}} {edge} {edge} 1 2)
M1 n ck out vss nch W={{1e-6*(1+dw)}} L=0.36e-6 AD=0.5e-12 AS=0.5e-12 PD=2e-6 PS=2e-6
M2 n cb n vss nch W=0.5e-6 L=0.36e-6 AD=0.25e-12 AS=0.25e-12 PD=1e-6 PS=1e-6
Vk k 0 PULSE(0 1 {{zero_s+{delay}}} {edge} {edge} 1 2)
V1 one 0 1
S2 p 0 one k plate
S3 p inn k 0 plate
.model plate sw vt=0.5 vh=0.1 ron=100 roff=1e13
{card}
.ends opamp_autozero
"""

CONTRACT = """\
schema = 1

[cell]
name = "opamp_autozero"
role = "opamp"
netlist = "opamp_autozero.cir"
subckt = "opamp_autozero"
description = "opamp_macro with an auto-zero phase before {zero} s; for transients only."

[pins]
in_p = "inp"
in_n = "inn"
out = "out"
vdd = "vdd"
vss = "vss"

[params.vos]
unit = "V"
default = 0.0
min = -0.1
max = 0.1

[params.dw]
unit = "1"
default = 0.0
min = -0.5
max = 0.5

[mismatch]
mode = "params"

[mismatch.params.vos]
distribution = "normal"
sigma = 1e-3
unit = "V"
relative = false

[mismatch.params.dw]
distribution = "normal"
sigma = {sigma}
unit = "1"
relative = false

[noise]
native = true
"""


def write_autozero_cell(folder: Path, hold_f: float, zero_s: float) -> Path:
    """Contract of the cell, written into ``folder`` with its netlists; the hold capacitor and the end of the phase."""
    cells = shipped("netlists/cells")
    pair = (cells / "diffpair.cir").read_text()
    start, end = pair.index(".model nch"), pair.index(".ends")
    card = pair[start:end].replace("+dvtn", "").replace("297*kn", "297").strip()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "opamp_macro.cir").write_text((cells / "opamp_macro.cir").read_text())
    values = {
        "hold": number(hold_f), "zero": number(zero_s), "high": HIGH_V, "low": LOW_V, "edge": number(EDGE_S),
        "delay": number(PLATE_DELAY_S), "card": card,
    }  # fmt: skip
    (folder / "opamp_autozero.cir").write_text(CIRCUIT.format(**values))
    path = folder / "opamp_autozero.toml"
    path.write_text(CONTRACT.format(zero=number(zero_s), sigma=SWITCH_SIGMA))
    return path
