"""Reading and writing ngspice's binary raw files: a chain of text headers, each followed by a block of numbers.

The reader is ours because the ones on PyPI guess the dialect or stop at the first plot. Headers are read by key,
not by position: ngspice 46 adds a ``Command:`` line that older versions do not print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analog_deq.errors import MissingPlotError
from analog_deq.records import Plot

_MARK = b"\nBinary:\n"


def read_plots(path: Path) -> tuple[Plot, ...]:
    """Every plot of a binary raw file, in file order; variable names are lower case.

    Real plots come back as float64, complex ones as complex128, each with shape (points, variables) and in SI units
    as ngspice wrote them. Raises MissingPlotError when the file is absent or empty, when a header is malformed,
    disagrees with its own variable list or announces no points, and when fewer numbers follow than it announces.

    >>> from tempfile import TemporaryDirectory
    >>> header = "Title: t\\nPlotname: Operating Point\\nFlags: real\\nNo. Variables: 1\\nNo. Points: 1\\n"
    >>> header += "Variables:\\n\\t0\\tv(a)\\tvoltage\\nBinary:\\n"
    >>> with TemporaryDirectory() as name:
    ...     path = Path(name) / "out.raw"
    ...     _ = path.write_bytes(header.encode() + np.ones(1).tobytes())
    ...     read_plots(path)[0]["v(a)"].tolist()
    [1.0]
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingPlotError(f"no raw file: {error.strerror}", folder=path.parent) from error
    plots: list[Plot] = []
    position = 0
    while position < len(content):
        mark = content.find(_MARK, position)
        if mark < 0:
            raise MissingPlotError(
                f"{path.name}: {len(content) - position} bytes after plot {len(plots)} are no binary plot header",
                folder=path.parent,
            )
        try:
            name, variables, points, dtype = _parse_header(content[position:mark].decode("latin-1"))
        except (KeyError, ValueError, IndexError) as error:
            raise MissingPlotError(
                f"{path.name}: header of plot {len(plots)} is malformed: {error}", folder=path.parent
            ) from error
        start = mark + len(_MARK)
        count = points * len(variables)
        position = start + count * dtype.itemsize
        if position > len(content):
            raise MissingPlotError(
                f"{path.name}: plot {len(plots)} '{name}' announces {points} points of {len(variables)} variables, "
                f"{position - start} bytes; {len(content) - start} are there",
                folder=path.parent,
            )
        # A copy: the block may start at any byte, and a view would keep the whole file in memory.
        data = np.frombuffer(content, dtype, count, start).reshape(points, len(variables)).copy()
        plots.append(Plot(name, variables, data))
    if not plots:
        raise MissingPlotError(f"{path.name} is empty", folder=path.parent)
    return tuple(plots)


def raw_bytes(plots: Sequence[Plot], *, title: str = "analog-deq") -> bytes:
    """A binary raw file of ``plots``, as ngspice writes and loads it, without a date: equal plots give equal bytes.

    A variable's type follows its name: ``time``, ``frequency``, ``i(...)`` a current, else a voltage. ValueError for a
    plot whose data is not (points, variables), or for a name that a header line cannot hold.

    >>> from tempfile import TemporaryDirectory
    >>> plot = Plot("Transient Analysis", ("time", "v(a)"), np.array([[0.0, 1.0], [1e-9, 0.5]]))
    >>> with TemporaryDirectory() as name:
    ...     path = Path(name) / "out.raw"
    ...     _ = path.write_bytes(raw_bytes([plot]))
    ...     read_plots(path)[0]["v(a)"].tolist()
    [1.0, 0.5]
    """
    parts = []
    for plot in plots:
        points, count = plot.data.shape
        if count != len(plot.variables):
            raise ValueError(f"plot {plot.name!r}: {count} columns for {len(plot.variables)} variables")
        if any(set(name) & set(" \t\r\n") for name in plot.variables) or "\n" in title + plot.name:
            raise ValueError(f"plot {plot.name!r}: a name holds blanks; a header line ends at them")
        complex_data = np.iscomplexobj(plot.data)
        lines = [
            f"Title: {title}", f"Plotname: {plot.name}", f"Flags: {'complex' if complex_data else 'real'}",
            f"No. Variables: {count}", f"No. Points: {points}", "Variables:",
            *(f"\t{k}\t{name}\t{_kind(name)}" for k, name in enumerate(plot.variables)), "Binary:\n",
        ]  # fmt: skip
        data = np.ascontiguousarray(plot.data, dtype="<c16" if complex_data else "<f8")
        parts.append("\n".join(lines).encode("latin-1", errors="replace") + data.tobytes())
    return b"".join(parts)


def _kind(name: str) -> str:
    if name in {"time", "frequency"}:
        return name
    return "current" if name.startswith("i(") else "voltage"


def _parse_header(text: str) -> tuple[str, tuple[str, ...], int, np.dtype]:
    fields: dict[str, str] = {}
    lines = text.split("\n")
    listing = lines.index("Variables:")
    for line in lines[:listing]:
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip().lower()] = value.strip()
    variables = tuple(line.split()[1].lower() for line in lines[listing + 1 :])
    announced, points = int(fields["no. variables"]), int(fields["no. points"])
    if announced != len(variables):
        raise ValueError(f"{announced} variables announced, {len(variables)} listed")
    if announced < 1 or points < 1:
        raise ValueError(f"plot '{fields['plotname']}' holds {points} points of {announced} variables")
    complex_data = "complex" in fields["flags"].lower().split()
    return fields["plotname"], variables, points, np.dtype(np.complex128 if complex_data else np.float64)
