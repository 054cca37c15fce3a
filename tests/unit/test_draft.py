"""First contracts of netlists as people write them: what is matched by name, what is left open, what is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.contract import read_contract
from analog_deq.netlists.draft import Draft, draft_contract, write_draft
from analog_deq.netlists.library import list_cells, load_cell
from analog_deq.resources import shipped

VENDOR = """\
* the style of vendors: upper case, continuation lines, PARAMS:, trailing comments, models in the file
.SUBCKT LM1 IN+ IN- VCC VEE OUT
+ PARAMS: A0 = 1E5
+ GBW=10MEG  EN={2*EIN} EIN=5N ; noise
RIN IN+ IN- 10MEG
G1 0 P IN+ IN- 1M
R1 P 0 {A0*1K}
C1 P 0 {1M/(6.283185307*GBW)}
D1 P VCC DCL
.MODEL DCL D IS=1E-14
E1 Q 0 P 0 1
RO Q OUT {50+0*EN}
.ENDS LM1
""".replace("1M\n", "1e-3\n").replace("1M/", "1e-3/")


def draft(folder: Path, text: str, name: str = "my_cell.cir", **options: str) -> Draft:
    (folder / name).write_text(text)
    return draft_contract(folder / name, **options)


def written(folder: Path, text: str, **options: str) -> dict:
    return tomllib.loads(draft(folder, text, **options).text)


def uncommented(text: str, *keys: str) -> str:
    """The draft with the lines of ``keys`` (``key = value`` or ``[table]``) taken in: all a user does."""
    for key in keys:
        text, found = re.subn(rf"^# ({re.escape(key)}( =.*)?)", r"\1", text, flags=re.MULTILINE)
        assert found == 1, f"{key}: {found} lines in\n{text}"
    return text


def test_a_vendors_netlist_becomes_a_contract_that_reads_back(tmp_path: Path) -> None:
    (tmp_path / "lm1.sub").write_text(VENDOR)
    found = draft_contract(tmp_path / "lm1.sub")
    path = write_draft(found, tmp_path / "lm1.sub", tmp_path / "lm1.toml")
    cell = read_contract(path)
    assert cell.role == found.role == "opamp"
    assert cell.contract.pins == {"in_p": "in+", "in_n": "in-", "out": "out", "vdd": "vcc", "vss": "vee"}
    assert {name: p.default for name, p in cell.contract.params.items()} == {"a0": 1e5, "gbw": 10e6, "ein": 5e-9}
    assert cell.contract.params["gbw"].unit == "Hz"
    assert "parameter en = {2*EIN} is an expression" in found.text
    points = [point.split(":")[0] for point in found.open_points]
    assert points == ["cell.role", "params", "conditions", "conditions.load"]


@pytest.mark.parametrize(
    ("header", "role", "pins"),
    [
        ("amp vinp vinm vo vdd vgnd", "opamp", {"in_p": "vinp", "vdd": "vdd", "vss": "vgnd"}),
        ("my_ota INP INN OUT VDD VSS", "ota", {"in_p": "inp", "in_n": "inn"}),
        ("tanh_pair in outp outn vdd vss", "activation", {"in": "in", "out_p": "outp", "out_n": "outn"}),
        ("buf in_p in_n out_p out_n avdd avss", "driver", {"in_n": "in_n", "out_n": "out_n", "vss": "avss"}),
        ("integ in out vcm vdd vss", "integrator", {"in": "in", "ref": "vcm"}),
        ("summer5 in out ref vdd vss", "summer", {"in": "in", "ref": "ref"}),
        ("cell te be", "synapse", {"row": "te", "col": "be"}),
        ("cell bl wl", "synapse", {"row": "wl", "col": "bl"}),
        ("limiter in y", "activation", {"in": "in", "out_p": "y"}),
    ],
)
def test_pins_are_matched_by_their_usual_names(tmp_path: Path, header: str, role: str, pins: dict[str, str]) -> None:
    nodes = header.split()[1:]
    lines = "\n".join(f"R{k} {pin} 0 1k" for k, pin in enumerate(nodes))
    options = {"role": role} if header.startswith("limiter") else {}
    content = written(tmp_path, f".subckt {header}\n{lines}\n.ends\n", **options)
    assert content["cell"]["role"] == role
    assert content["pins"].items() >= pins.items()


def test_a_ground_pin_is_no_negative_supply(tmp_path: Path) -> None:
    single = written(
        tmp_path, ".subckt a inp inn out vdd gnda agnd\nR1 inp inn 1k\nR2 out agnd 1k\nR3 vdd gnda 1\n.ends\n"
    )
    assert single["pins"]["vss"] == "agnd"
    assert "vss" not in single["conditions"]
    assert single["conditions"]["vdd"]["typ"] == 1.8
    double = written(tmp_path, ".subckt a inp inn out vdd vee\nR1 inp inn 1k\nR2 out vee 1k\nR3 vdd 0 1\n.ends\n")
    assert (double["conditions"]["vdd"]["typ"], double["conditions"]["vss"]["typ"]) == (0.9, -0.9)


def test_what_cannot_be_guessed_is_a_line_to_take_in(tmp_path: Path) -> None:
    """Numbered pins: every role pin is asked for, every netlist pin has a place to go, and no supply is invented."""
    text = ".SUBCKT 741 1 2 3 4 5\nR1 1 2 1k\nR2 3 4 1k\nR3 5 4 1k\n.ENDS\n"
    found = draft(tmp_path, text, role="opamp")
    assert [p.split(":")[0] for p in found.open_points][:3] == ["pins.in_p", "pins.in_n", "pins.out"]
    content = tomllib.loads(found.text)
    assert content["pins"] == {}
    assert "vdd" not in content["conditions"]
    filled = uncommented(found.text, "in_p", "in_n", "out", "vdd = { min")
    filled = filled.replace('in_n = "1"', 'in_n = "2"').replace('out = "1"', 'out = "5"')
    filled = filled.replace('# vdd = "1"', 'vdd = "3"').replace('# vss = "1"', 'vss = "4"')
    (tmp_path / "my_cell.toml").write_text(filled)
    assert read_contract(tmp_path / "my_cell.toml").contract.pins["out"] == "5"


def test_two_numbered_pins_of_five_are_no_synapse(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"my_cell.cir: .subckt 741 \(1 2 3 4 5\): no role recognised.*--role, one of"):
        draft(tmp_path, ".subckt 741 1 2 3 4 5\nR1 1 2 1k\nR2 3 4 1k\nR3 5 4 1k\n.ends\n")


def test_parameters_that_are_zero_offer_themselves_for_mismatch(tmp_path: Path) -> None:
    text = ".subckt s row col g=2e-5 dg=0\nR1 row col {1/(g+dg)}\n.ends\n"
    found = draft(tmp_path, text)
    keys = ("[mismatch.params.dg]", "distribution", "sigma", "relative")
    filled = uncommented(found.text, *keys).replace('# unit = "S"', 'unit = "S"').replace('"none"', '"params"')
    (tmp_path / "my_cell.toml").write_text(filled.replace("sigma = 1e-3", "sigma = 1e-6"))
    cell = read_contract(tmp_path / "my_cell.toml")
    assert cell.mismatch_sigmas == {"dg": 1e-6}
    assert (cell.contract.state["g"].min, cell.contract.state["g"].max) == (1e-5, 4e-5)


def test_a_synapse_without_g_is_asked_what_is_programmed(tmp_path: Path) -> None:
    found = draft(tmp_path, ".subckt s row col r=1e4\nR1 row col {r}\n.ends\n")
    assert any(point.startswith("state.g") for point in found.open_points)
    assert "state" not in tomllib.loads(found.text)


def test_models_that_nothing_defines_are_named(tmp_path: Path) -> None:
    text = ".subckt a row col\nXM1 row col 0 0 nfet_x w=1 l=1\nD1 row 0 own\n.model own d\n.ends\n"
    found = draft(tmp_path, text, role="synapse")
    assert "models: nothing defines nfet_x" in found.open_points
    assert "models" not in tomllib.loads(found.text)
    filled = tomllib.loads(uncommented(found.text, "[models]", "lib", "[corners]", "tt"))
    assert filled["models"]["lib"]
    assert filled["corners"]["tt"] == {"section": "tt"}


HELPERS = """\
.subckt half a b
R1 a b 1k
.ends
.subckt whole row col
X1 row m half
X2 m col half
.ends
"""


def test_helpers_beside_the_cell_are_seen_by_who_calls_them(tmp_path: Path) -> None:
    assert written(tmp_path, HELPERS)["cell"]["subckt"] == "whole"
    assert written(tmp_path, HELPERS, subckt="HALF", role="synapse")["cell"]["subckt"] == "half"
    with pytest.raises(SpecError, match=r"which of its subcircuits is the cell.*--subckt, one of half, whole, other"):
        draft(tmp_path, HELPERS + ".subckt other a b\nR1 a b 1\n.ends\n")
    with pytest.raises(SpecError, match=r"--subckt hole: .*has at its top half, whole"):
        draft(tmp_path, HELPERS, subckt="hole")


def test_included_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts.inc").write_text(HELPERS.partition(".subckt whole")[0])
    found = draft(tmp_path, ".include parts.inc\n.subckt whole row col\nX1 row col half\n.ends\n", role="synapse")
    assert not any("nothing defines" in point for point in found.open_points)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("R1 a b 1k\n", NetlistError, "my_cell.cir: no .subckt in this file"),
        (".subckt s row col\nR1 row col 1M\n.ends\n", NetlistError, "my_cell.cir:2: 'R1 row col 1M'.*1Meg for mega"),
        (".subckt s row col\nR1 row col 1k\n", NetlistError, "my_cell.cir:1: .subckt s has no .ends"),
        (".subckt s row col\nR1 row col 1k\n.tran 1 2\n.ends\n", NetlistError, "my_cell.cir:3: '.tran 1 2'"),
        (".subckt s row col\n.include gone.inc\n.ends\n", NetlistError, "my_cell.cir:2: '.include gone.inc'"),
        (".subckt s row col\n*#shell touch x\n.ends\n", NetlistError, r"my_cell.cir:2: '\*#shell touch x'"),
    ],
)
def test_a_netlist_that_no_contract_could_save_is_refused_at_once(
    tmp_path: Path, text: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        draft(tmp_path, text)
    assert [path.name for path in tmp_path.iterdir()] == ["my_cell.cir"]


@pytest.mark.parametrize(
    ("name", "mend"), [("my amp.cir", "my_amp.cir"), ("LM324.lib", "LM324.cir"), ("a.b.sp", "a_b")]
)
def test_a_file_name_no_contract_takes_is_refused(tmp_path: Path, name: str, mend: str) -> None:
    with pytest.raises(SpecError, match=mend):
        draft(tmp_path, VENDOR, name)


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--role amp: unknown; use one of opamp, ota"):
        draft(tmp_path, VENDOR, role="amp")


def test_a_draft_never_replaces_a_persons_work(tmp_path: Path) -> None:
    found = draft(tmp_path, VENDOR)
    (tmp_path / "my_cell.toml").write_text("mine")
    with pytest.raises(SpecError, match="exists already"):
        write_draft(found, tmp_path / "my_cell.cir", tmp_path / "my_cell.toml")
    assert (tmp_path / "my_cell.toml").read_text() == "mine"
    (tmp_path / "sub").mkdir()
    with pytest.raises(SpecError, match="lies beside its netlist"):
        write_draft(found, tmp_path / "my_cell.cir", tmp_path / "sub" / "a.toml")


@pytest.mark.parametrize("name", list_cells())
def test_shipped_netlists_match_their_own_contracts(name: str, tmp_path: Path) -> None:
    """Pins by name and parameters with their defaults, for every cell we ship: the same as its contract says."""
    cell = load_cell_text(name)
    netlist = shipped("netlists/cells") / cell["cell"]["netlist"]
    for file in shipped("netlists/cells").glob("*.cir"):
        (tmp_path / file.name).write_text(file.read_text())
    content = tomllib.loads(draft_contract(tmp_path / netlist.name, cell["cell"]["role"]).text)
    assert content["pins"] == cell["pins"]
    for key, spec in cell.get("params", {}).items():
        assert content["params"][key]["default"] == pytest.approx(spec["default"], rel=1e-12)


def load_cell_text(name: str) -> dict:
    return tomllib.loads((shipped("netlists/cells") / f"{name}.toml").read_text())


def test_the_roles_of_shipped_cells_are_guessed_or_named_as_open() -> None:
    for name in list_cells():
        content = load_cell_text(name)
        found = draft_contract(shipped("netlists/cells") / content["cell"]["netlist"])
        role = content["cell"]["role"]
        assert found.role == role or any(role in point for point in found.open_points if "cell.role" in point), name
    assert load_cell("opamp_macro").role == "opamp"
