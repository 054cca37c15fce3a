"""One text from a netlist and the files it brings in: each file of the cell's own folder, written in and screened.

A deck that holds one text needs no file lookup at run time, so no simulator decides what a path means. ngspice reads
``.include`` and ``.lib`` before it joins continued lines and before it looks at the cards; so does this module.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.header import read_scopes
from analog_deq.netlists.lines import LogicalLine, logical_lines, strip_comment
from analog_deq.netlists.nest import nest
from analog_deq.netlists.screen import INCLUDE_CARDS, included_file, screen_lines, screen_names

MAX_LINES = 100_000
MAX_FILES = 1000
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class _Request:
    """Who asks for a file, as messages say it; how many were asked for; the (file, section) pairs on the way to it."""

    asker: str
    count: Iterator[int]
    stack: tuple[tuple[Path, str], ...] = ()


def read_netlist(path: Path, folder: Path, referrer: Path, subckt: str | None = None) -> str:
    """Screened text of ``path`` with every ``.include FILE`` and ``.lib FILE SECTION`` written in, line ends ``\\n``.

    Files are looked up beside the file that names them and must lie inside ``folder``, links followed. A library file
    holds ``.lib NAME`` ... ``.endl`` sections, which may bring in further files and sections, of their own file too;
    only the section asked for is written in. ``referrer`` is the contract that names ``path``, for messages. With
    ``subckt``, helpers and models beside that subcircuit are allowed and come back inside it (:func:`nest`).

    Raises NetlistError with file, line, the line quoted and the mend for: a file that is missing, not UTF-8, outside
    ``folder`` or named by an absolute path; a section that is missing, defined twice or never closed; a file or
    section that brings in itself; more than 1000 files, 100 000 lines, or 16 MiB in one file; and what
    :func:`screen_netlist` refuses. SpecError when the file has no such ``subckt`` at its top.
    """
    text, where = written_in(path, folder, referrer)
    screen_lines(text, where)
    if subckt is not None:
        tops = [scope.header.name for scope in read_scopes(text, where).inner]
        if subckt.lower() not in tops:
            has = ", ".join(tops) or "none"
            raise SpecError(f"{referrer}: cell.subckt = {subckt!r}: {path} has at its top {has}; name one of them")
    screen_names(text, where, subckt)
    return text if subckt is None else nest(text, subckt, str(path))


def written_in(path: Path, folder: Path, referrer: Path) -> tuple[str, list[str]]:
    """Text of ``path`` with its files written in, and the place (``file:line``) of each line of it; not screened."""
    places, lines = [], []
    for place, raw in _expand(path, "", folder, _Request(f"cell.netlist of {referrer}", itertools.count(1))):
        places.append(place)
        lines.append(raw)
        if len(lines) > MAX_LINES:
            raise NetlistError(f"{place}: the netlist has more than {MAX_LINES} lines with its files; leave parts out")
    return "\n".join(lines) + "\n", [*places, places[-1]]


def _expand(path: Path, section: str, folder: Path, request: _Request) -> Iterator[tuple[str, str]]:
    """(place, line) of each line of a file, or of one section of it, with what they bring in."""
    text = _read(path, folder, request)
    if (path.resolve(), section) in request.stack:
        name = f"section {section!r} of {path}" if section else str(path)
        raise NetlistError(f"{request.asker}: {name} includes itself; break the circle")
    if section:
        text = _section(text, section, path, request)
    stack = (*request.stack, (path.resolve(), section))
    cards = {line.number: line for line in logical_lines(text, str(path)) if line.card in INCLUDE_CARDS}
    for number, raw in enumerate(text.rstrip("\n").split("\n"), start=1):
        line = cards.get(number)
        if line is None:
            yield f"{path}:{number}", raw
            continue
        if strip_comment(raw) != line.text:
            raise line.error("is continued", f"write the {line.card} on one line")
        name, wanted = included_file(line)
        yield from _expand(path.parent / name, wanted, folder, _Request(line.quoted, request.count, stack))


def _read(path: Path, folder: Path, request: _Request) -> str:
    asked = f"{request.asker}: " if request.stack else ""
    if next(request.count) > MAX_FILES:
        raise NetlistError(f"{asked}the netlist brings in more than {MAX_FILES} files; leave parts out")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise NetlistError(f"{asked}{path} lies outside {folder}; a cell includes only files of its own folder")
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a plain file")
        if path.stat().st_size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES} bytes")
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")  # read_text would make a lone \r a line end
    except (OSError, UnicodeDecodeError) as error:
        mend = "write a file that is there" if request.stack else f"{request.asker} names it"
        raise NetlistError(f"{asked}{path}: cannot be read ({error}); {mend}, it must be UTF-8 text") from error


def _section(text: str, section: str, path: Path, request: _Request) -> str:
    """``text`` with every line outside the section emptied, so that line numbers stay those of the file."""
    found: list[tuple[int, int]] = []
    names: list[str] = []
    opened: LogicalLine | None = None
    for line in logical_lines(text, str(path)):
        words = line.text.lower().replace('"', "").replace("'", "").split()
        if words[0] == ".lib" and len(words) == 2:
            if opened is not None:
                raise line.error(f"starts inside the section of line {opened.number}", "close that with .endl")
            opened = line
            names.append(words[1])
        elif words[0] == ".endl":
            if opened is None or words[1:] not in ([], [names[-1]]):
                raise line.error("closes no section of that name", "write it after its .lib NAME")
            if names[-1] == section:
                found.append((opened.number, line.number))
            opened = None
    if opened is not None:
        raise opened.error("has no .endl", "add it where the section ends")
    if len(found) != 1:
        has = ", ".join(dict.fromkeys(names)) or "none"
        times = f"defined {len(found)} times" if found else "not there"
        raise NetlistError(f"{request.asker}: the section {section!r} of {path} is {times}; its sections are {has}")
    first, last = found[0]
    return "\n".join(raw if first < number < last else "" for number, raw in enumerate(text.split("\n"), start=1))
