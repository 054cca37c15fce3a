"""Files brought in by a netlist: written in from the cell's own folder, or refused with the line that asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.includes import read_netlist

TOP = ".subckt amp a b\n{line}\nR1 a b 1\n.ends\n"
LIBRARY = """* corners
.LIB tt
.param r=1
.lib 'models.lib' common
.endl TT
r of no section: ignored
.lib "ss"
.param r=2
.include parts/r.inc
.endl
.lib common
R3 a b {r}
.endl common
"""


def read(folder: Path, line: str, **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "amp.cir").write_text(TOP.format(line=line))
    return read_netlist(folder / "amp.cir", folder, folder / "amp.toml")


def refusal(folder: Path, line: str, **files: str) -> str:
    with pytest.raises(NetlistError) as caught:
        read(folder, line, **files)
    return str(caught.value)


@pytest.mark.parametrize("line", [".include x.cir", ".INC 'x.cir'", '.Include "x.cir" ; note', "  .inc x.cir"])
def test_an_include_is_written_in_where_it_stands(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, line, x_cir="* x\r\nR2 a b 2\r\n\r\n").split("\n")[:4] == [
        ".subckt amp a b", "* x", "R2 a b 2", "R1 a b 1",
    ]  # fmt: skip


@pytest.mark.parametrize("line", [".lib models.lib tt", ".LIB 'models.lib' TT", '.lib "models.lib" "tt"'])
def test_a_section_may_bring_in_another_of_its_own_file(tmp_path: Path, line: str) -> None:
    text = read(tmp_path, line, models_lib=LIBRARY)
    assert [x for x in text.splitlines() if x] == [
        ".subckt amp a b", ".param r=1", "R3 a b {r}", "R1 a b 1", ".ends",
    ]  # fmt: skip


def test_a_file_is_looked_up_beside_the_one_that_names_it(tmp_path: Path) -> None:
    files = {"models_lib": LIBRARY, "parts__r_inc": ".include deep.inc\n", "parts__deep_inc": "R4 a b {r}\n"}
    text = read(tmp_path, ".lib models.lib ss", **files)
    assert [x for x in text.splitlines() if x][1:3] == [".param r=2", "R4 a b {r}"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (".include none.cir", "none.cir: cannot be read"),
        (".lib none.lib tt", "none.lib: cannot be read"),
        (".lib models.lib fast", "the section 'fast' of"),
        (".lib models.lib fast", "its sections are tt, ss, common"),
        (".lib tt", "is no '.lib FILE SECTION'"),
        (".lib models.lib tt ss", "is no '.lib FILE SECTION'"),
        (".include /etc/passwd", "by its relative name"),
        (".lib /etc/passwd root", "by its relative name"),
        (".lib ../models.lib tt", "by its relative name"),
        (".include amp.cir", "includes itself"),
        (".include models.lib", "is no '.lib FILE SECTION'"),
    ],
)
def test_what_can_not_be_brought_in_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(tmp_path, line, models_lib=LIBRARY)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (".lib tt\nR2 a b 1\n", "models.lib:1: '.lib tt' has no .endl"),
        (".lib tt\n.lib ss\n.endl\n", "models.lib:2: '.lib ss' starts inside the section of line 1"),
        (".lib tt\n.endl ss\n", "models.lib:2: '.endl ss' closes no section"),
        (".endl\n", "models.lib:1: '.endl' closes no section"),
        (".lib tt\n.endl\n.lib TT\n.endl\n", "the section 'tt' of"),
        (".lib tt\n.lib models.lib tt\n.endl\n", "models.lib:2: \".lib models.lib tt\": section 'tt'"),
        (".lib tt\n.lib models.lib ss\n.endl\n.lib ss\n.lib models.lib tt\n.endl\n", "includes itself"),
        (".lib tt\nR2 a b\n.endl\n", "models.lib:2: 'R2 a b' is too short"),
        (".lib tt\n.include\n+ amp.cir\n.endl\n", "models.lib:2: '.include + amp.cir'"),
    ],
)
def test_a_malformed_library_is_refused_with_its_line(tmp_path: Path, library: str, said: str) -> None:
    assert said.replace('"', "'") in refusal(tmp_path, ".lib models.lib tt", models_lib=library).replace('"', "'")


DESIGN = """.include models.inc
.subckt helper a b
R1 a b {r}
.ends
.subckt amp a b
X1 a b helper
.ends
"""


def read_design(folder: Path, models: str, subckt: str = "AMP") -> str:
    (folder / "models.inc").write_text(models)
    (folder / "amp.cir").write_text(DESIGN)
    return read_netlist(folder / "amp.cir", folder, folder / "amp.toml", subckt)


def test_with_the_subcircuit_named_helpers_and_models_come_back_inside_it(tmp_path: Path) -> None:
    text = read_design(tmp_path, "* models\n.param r=1k\n.model n nmos level=1\n")
    assert [line for line in text.split("\n") if line] == [
        "* models", ".subckt amp a b", "X1 a b amp__helper", ".subckt amp__helper a b", "R1 a b {r}", ".ends",
        ".param r=1k", ".model n nmos level=1", ".ends",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("* m\nR1 a b 1k\n", "models.inc:2: 'R1 a b 1k' stands outside"),
        (
            "* m\n.subckt helper a b\nR1 a b 1k\n.ends\n",
            "amp.cir:2: '.subckt helper a b' defines .subckt 'helper' again",
        ),
        (".param r=4k7\n", "models.inc:1: '.param r=4k7': '4k7'"),
        (".param r=1k\n.ends\n", "models.inc:2: '.ends' closes no .subckt"),
        (".param r=1k\n.subckt x a\n", "models.inc:2: .subckt x has no .ends"),
    ],
)
def test_errors_name_the_file_and_line_they_stand_in(tmp_path: Path, models: str, said: str) -> None:
    with pytest.raises(NetlistError) as caught:
        read_design(tmp_path, models)
    assert said in str(caught.value)


def test_a_subcircuit_that_is_not_there_is_an_error_of_the_contract(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"amp\.toml: cell\.subckt = 'amp2': .*amp\.cir has at its top helper, amp; name"
    ):
        read_design(tmp_path, ".param r=1k\n", "amp2")


@pytest.mark.parametrize("kind", ["lines", "bytes", "files", "latin1", "bom", "carriage"])
def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "models.inc").write_bytes(
        {
            "lines": b"* x\n" * 100_001,
            "bytes": b"*" * (16 * 2**20 + 1),
            "files": b".include r.inc\n" * 1001,
            "latin1": b"* \xe9\n",
            "bom": b"\xef\xbb\xbfR1 a b 1k\n",
            "carriage": b"* note\rR1 a b 1k\n",
        }[kind]
    )
    (tmp_path / "r.inc").write_text("* r\n")
    (tmp_path / "amp.cir").write_text(DESIGN)
    said = {"lines": "100000 lines", "bytes": "larger than 16777216 bytes", "files": "1000 files", "latin1": "UTF-8",
            "bom": "non-ASCII", "carriage": "control character"}[kind]  # fmt: skip
    with pytest.raises(NetlistError, match=said):
        read_netlist(tmp_path / "amp.cir", tmp_path, tmp_path / "amp.toml", "amp")
