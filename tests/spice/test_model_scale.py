"""A library with ``.option scale`` against its cut text without, for every kind of element with a size, in ngspice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.models import device_names, prune_library
from analog_deq.records import Ac, Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

MODELS = """.model m54 nmos level=54 version=4.5 toxe=4e-9 vth0=0.5 jss=1e-3 jsws=1e-9 cjs=1e-3 cjsws=1e-10 rsh=100
+ kvth0=1e-7 ku0=-2.7e-8 saref=3e-6 sbref=3e-6
.model m1 nmos level=1 vto=0.5 kp=1e-4 tox=1e-8 js=1e-3 cj=1e-3 cjsw=1e-9
.model m1d nmos level=1 vto=0.5 kp=1e-4 lambda=0.1 cgdo=1e-10 w=7 l=2
.model d3 d level=3 js=1e-3 jsw=1e-8 cj=1e-3 cjsw=1e-9
.model d3d d level=3 js=1e-3 cj=1e-3 w=3 l=4
.model rm r rsh=100 dw=1e-7 tc1=1e-3
.model rmd r rsh=100 w=3e-6
.model cm c cox=1e-3 capsw=1e-10
.model qm npn is=1e-16 bf=100 cje=1e-13
.model jm njf vto=-1 beta=1e-4 cgs=1e-13
"""
ELEMENTS = {
    "mos": "M1 a b 0 0 m54 w='wide' l=1.1 ad={2*wide} as=4 pd=9 ps = 8 nrd=0.2",
    "mos_backwards": "M1 0 b a 0 m54 w={wide} l=1.1 as=4 ps=8",
    "stress": "M1 a b 0 0 m54 w={wide} l=1.1 nf=4 sa=0.4 sb=0.6 sd=0.5 m=2",
    "mos_level_1": "M1 a b 0 0 m1 l=2u w=5e6u ad=6 pd=11",
    "mos_by_its_model": "M1 a b 0 0 m1d",
    "diode": "D1 0 a d3 w={wide} l=3",
    "diode_by_its_model": "D1 0 a d3d",
    "resistor": "R1 a 0 rm w={wide} l=20 tc2=1e-6",
    "resistor_by_its_model": "R1 a 0 rmd l=20",
    "capacitor": "C1 a 0 cm w={wide} l=21",
    "bipolar": "Q1 a b 0 qm area={wide}",
    "jfet": "J1 a b 0 jm 3",
    "value": "R1 a 0 r={1k*wide}\\nC1 a 0 c=2p",
}


@pytest.mark.parametrize("kind", ELEMENTS)
def test_the_scale_option_and_its_absence_agree(kind: str, simulator: Simulator, tmp_path: Path) -> None:
    element = ELEMENTS[kind].replace("\\n", "\n")
    library = tmp_path / "kit.lib"
    device = f".subckt device a b wide=5\n{element}\n{MODELS}.ends\n"
    library.write_text(f"* kit\n.option scale=1u\n{device}")
    use = "X1 d g device wide=6"
    models = prune_library(library, "", device_names(use))
    assert "scale=1u" not in models.text
    plots = []
    for name, text in (("kit.spice", library.read_text()), models.file):
        circuit = [f".include {name}", "Vd d 0 0.7 AC 1", "Vg g 0 0.8", use]
        deck = build_deck(
            kind, circuit, [Op(), Ac(1, 1e4, 1e7)], save=["i(vd)"], options={"reltol": 1e-9, "abstol": 1e-18},
            files=[(name, text)], bound=1e9, temperature_celsius=50.0,
        )  # fmt: skip
        plots.append(run_deck(deck, simulator=simulator, folder=tmp_path, timeout_s=30.0).plots)
    for whole, cut in zip(*plots, strict=True):
        np.testing.assert_allclose(cut.data, whole.data, rtol=1e-12, atol=1e-24)
    assert abs(plots[0][1]["i(vd)"][-1]) > 1e-11
