"""The raw reader against a writer of its own format, whole and cut."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analog_deq.errors import MissingPlotError
from analog_deq.records import Plot
from analog_deq.spice.rawfile import read_plots

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.#()", min_size=1, max_size=12)


def encode(plots: Sequence[Plot], *, command: bool = True) -> bytes:
    """The bytes ngspice would write; ``command``: with the line that ngspice 46 adds."""
    parts: list[bytes] = []
    for index, plot in enumerate(plots):
        head = ["Title: * Binary:"] if index == 0 else []
        head += ["Date: Mon Nov 23 13:07:59  2026", "Command: ngspice-46"][: 2 if command else 1]
        head += [f"Plotname: {plot.name}", f"Flags: {'complex' if np.iscomplexobj(plot.data) else 'real'}"]
        head += [f"No. Variables: {len(plot.variables)}", f"No. Points: {len(plot.data)}", "Variables:"]
        head += [f"\t{k}\t{name}\tvoltage" + " grid=3" * (k == 0) for k, name in enumerate(plot.variables)]
        parts += ["\n".join([*head, "Binary:", ""]).encode(), plot.data.tobytes()]
    return b"".join(parts)


@st.composite
def plots(draw: st.DrawFn) -> Plot:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    dtype = draw(st.sampled_from([np.float64, np.complex128]))
    data = draw(hnp.arrays(dtype, (draw(st.integers(1, 5)), len(names))))
    return Plot(draw(st.sampled_from(["Operating Point", "Transient Analysis", "AC Analysis"])), tuple(names), data)


def read(content: bytes) -> tuple[Plot, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.raw"
        path.write_bytes(content)
        return read_plots(path)


@given(st.lists(plots(), min_size=1, max_size=3), st.booleans())
def test_round_trip(written: list[Plot], command: bool) -> None:
    found = read(encode(written, command=command))
    assert [(p.name, p.variables) for p in found] == [(p.name, p.variables) for p in written]
    for a, b in zip(found, written, strict=True):
        assert a.data.dtype == b.data.dtype
        assert a.data.tobytes() == b.data.tobytes()


@given(plots(), plots(), st.data())
def test_any_cut_is_noticed(first: Plot, second: Plot, data: st.DataObject) -> None:
    whole, boundary = encode([first, second]), len(encode([first]))
    cut = data.draw(st.integers(0, len(whole) - 1).filter(lambda n: n != boundary))
    with pytest.raises(MissingPlotError):
        read(whole[:cut])


ONE = Plot("Operating Point", ("v(a)", "v(b)"), np.array([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"Variables: 2", b"Variables: 3", "3 variables announced, 2 listed"),
        (b"Points: 1", b"Points: 0", "holds 0 points"),
        (b"Points: 1", b"Points: -1", "holds -1 points"),
        (b"Points: 1", b"Points: 2", "announces 2 points"),
        (b"Points: 1", b"Points: many", "malformed"),
        (b"Flags: real\n", b"", "flags"),
        (b"Binary:\n", b"Values:\n", "no binary plot header"),
    ],
)
def test_a_wrong_header_is_refused(old: bytes, new: bytes, message: str) -> None:
    content = encode([ONE]).replace(b"\n" + old, b"\n" + new).replace(b"No. " + old, b"No. " + new)
    with pytest.raises(MissingPlotError, match=message):
        read(content)


def test_bytes_after_the_last_plot_are_refused() -> None:
    with pytest.raises(MissingPlotError, match="8 bytes after plot 1"):
        read(encode([ONE]) + bytes(8))


def test_an_absent_file_is_a_missing_plot(tmp_path: Path) -> None:
    with pytest.raises(MissingPlotError, match="no raw file"):
        read_plots(tmp_path / "out.raw")


def test_data_is_aligned_and_writable() -> None:
    data = read(encode([ONE]))[0].data
    assert data.flags.aligned
    data[0, 0] = 5.0
