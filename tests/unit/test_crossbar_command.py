"""``analog-deq crossbar``: numbers by hand, the deck it writes, and every bad file by file, line, value and mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analog_deq.cli import cli


def run(folder: Path, resistances: str, inputs: str, *options: str) -> Result:
    (folder / "R.csv").write_text(resistances)
    (folder / "V.csv").write_text(inputs)
    files = ["--resistances", str(folder / "R.csv"), "--inputs", str(folder / "V.csv")]
    return CliRunner().invoke(cli, ["crossbar", *files, *options])


def test_currents_by_hand(tmp_path):
    """One word line, two bit lines: 1 kohm, and an open cell; one and two segments of 100 ohm before the cells."""
    result = run(tmp_path, "1k,inf\n", "1.0\n-2.0\n", "--r-word", "100", "--r-bit", "200", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["command"] == "crossbar"
    assert (found["rows"], found["columns"], found["inputs"]) == (1, 2, 2)
    assert found["column_currents_a"][0] == pytest.approx([1 / 1300, 0.0], abs=1e-18)
    assert found["column_currents_a"][1] == pytest.approx([-2 / 1300, 0.0], abs=1e-18)
    assert found["wiring"]["r_word_ohm"] == 100


def test_rows_are_word_lines(tmp_path):
    result = run(tmp_path, "1e3,2e3\n4e3,inf\n0,1e6\n", "1,0,0\n0,1,0\n", "--json", "--r-selector", "10")
    currents = json.loads(result.stdout)["column_currents_a"]
    assert currents[0] == pytest.approx([1 / 1010, 1 / 2010])
    assert currents[1] == pytest.approx([1 / 4010, 0.0])


def test_the_deck_is_written_and_named(tmp_path):
    deck = tmp_path / "array.cir"
    result = run(tmp_path, "1e3,0\n2e3,1e3\n", "1,0.5\n", "--r-word", "1", "--r-bit", "1", "--deck", str(deck))
    assert result.exit_code == 0, result.output
    assert "input 0:" in result.stdout
    assert str(deck) in result.stdout
    lines = deck.read_text().splitlines()
    assert "Rw0_0 w0 r0_0 1.0" in lines  # source, then r_word before the first cell
    assert "Rg1_0 r1_0 c1_0 2000.0" in lines
    assert not any(line.startswith("Rg0_1") for line in lines)  # a short joins its two nodes
    assert "alter vw1 dc = 0.5" in lines


@pytest.mark.parametrize(
    ("resistances", "inputs", "options", "parts"),
    [
        ("1e3,-5\n", "1\n", (), ("R.csv, line 1, column 2", "-5", "inf for an open cell")),
        ("1e3,nan\n", "1\n", (), ("R.csv, line 1, column 2", "'nan'", "write a number")),
        ("1e3,abc\n", "1\n", (), ("R.csv, line 1, column 2", "'abc'")),
        ("1e3,1M\n", "1\n", (), ("R.csv, line 1, column 2", "milli")),
        ("1e3,\n", "1\n", (), ("R.csv, line 1, column 2", "no value", "inf")),
        ("1e3,1e3\n1e3\n", "1,1\n", (), ("R.csv, line 2", "1 values", "line 1 has 2")),
        ("1e3,1e3\n", "1,2\n", (), ("V.csv", "2 values a line", "1 word lines", "one voltage for each word line")),
        ("1e3\n1e3\n", "1,2,3\n1,2,3\n", (), ("transposed",)),
        ("1e3\n", "inf\n", (), ("V.csv, line 1, column 1", "'inf'", "finite number of volts")),
        ("\n", "1\n", (), ("R.csv", "no numbers")),
        ("1e3\n", "", (), ("V.csv", "no numbers")),
        ("0\n", "1\n", (), ("row source 0 to column sense 0", "give the cells")),
        ("1e3\n", "1\n", ("--r-word", "-1"), ("--r-word", "-1")),
        ("1e3\n", "1\n", ("--r-bit", "nan"), ("r_bit_ohm = nan",)),
        ("1e3\n", "1\n", ("--sinh", "1e-3"), ("v0 = 0.001", "1/200")),
        ("1e3\n", "1\n", ("--sinh", "0.1", "--r-selector", "5"), ("no linear selector",)),
        ("0\n", "1\n", ("--sinh", "0.1", "--r-word", "1"), ("finite conductances",)),
    ],
)
def test_bad_input_is_one_error_and_writes_nothing(tmp_path, resistances, inputs, options, parts):
    deck = tmp_path / "array.cir"
    result = run(tmp_path, resistances, inputs, *options, "--deck", str(deck))
    assert result.exit_code == 2
    for part in parts:
        assert part in result.stderr
    assert result.stderr.count("Error") == 1
    assert not deck.exists()
    assert result.stdout == ""


def test_a_binary_file(tmp_path):
    (tmp_path / "R.csv").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "V.csv").write_text("1\n")
    arguments = ["crossbar", "--resistances", str(tmp_path / "R.csv"), "--inputs", str(tmp_path / "V.csv")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "not a text file" in result.stderr


def test_one_vector_may_be_a_column(tmp_path):
    line = run(tmp_path, "1e3,2e3\n4e3,5e3\n", "1,0.5\n", "--json").stdout
    column = run(tmp_path, "1e3,2e3\n4e3,5e3\n", "1\n0.5\n", "--json").stdout
    assert json.loads(line)["column_currents_a"] == json.loads(column)["column_currents_a"]
