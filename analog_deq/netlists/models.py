"""The device models a cell needs, cut out of a process design kit's library into one small text that stands alone.

ngspice takes half a second and up to 170 MB to load a whole library for eight transistors. What the cell can reach
(the subcircuits it instantiates, the models inside them, every global parameter) loads in a few hundredths, travels
with the deck, and is hashed with it. docs/decisions/0006-model-libraries.md has the measurements, and how corners,
temperatures and dies are run on such a text.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analog_deq.errors import SpecError
from analog_deq.netlists.devices import ASSIGNMENT, Size, leading_words, literal
from analog_deq.netlists.devices import device_names as device_names
from analog_deq.netlists.devices import device_sizes as device_sizes
from analog_deq.netlists.model_bins import base_name, chosen_bins
from analog_deq.netlists.model_library import Statement, library_file, statements
from analog_deq.netlists.model_library import resolve_library as resolve_library
from analog_deq.netlists.model_rewrite import model_type, rewritten
from analog_deq.netlists.screen import ELEMENT_WORDS, MODEL_TYPES

_CARDS = frozenset({".param", ".func", ".subckt", ".ends", ".model", ".if", ".elseif", ".else", ".endif"})
_UNSAFE = re.compile(r"\b(input_|state_)?file(name)?\s*=|[`\\\x00-\x08\x0b-\x1f\x7f]|[^\x00-\x7f]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelText:
    """Models cut out of a library: a text that stands alone, what it defines, and where that came from.

    ``names`` are the subcircuits and models kept, lower case, sorted; ``sources`` are (file relative to the library's
    folder, SHA-256) of every file with a kept statement.
    """

    section: str
    text: str
    names: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def file(self) -> tuple[str, str]:
        """(relative file name, content), as ``Deck.files`` takes it."""
        return f"models_{self.section}.spice", self.text


def prune_library(
    path: Path,
    section: str,
    wanted: Collection[str],
    sizes: Mapping[str, frozenset[Size] | None] | None = None,
    *,
    overrides: Mapping[str, float] | None = None,
    root: Path | None = None,
) -> ModelText:
    """The models ``wanted`` from one section of a library, with all they need, as a text that stands alone.

    Kept are the subcircuits and global models named, the subcircuits those instantiate, every global parameter and
    function, and the leading comment lines (licence) of each file used. Of a device whose ``sizes`` are numbers, only
    the bins that hold them are kept. ``.option scale`` is global in ngspice, so it does not travel: it is multiplied
    into the instances, and other cells of the deck stay in metres. ``overrides`` are new values of global parameters,
    such as a library's mismatch switch.

    Raises SpecError for a name or override the section does not have, with what comes close, for a size in no bin, and
    for a global model under ``.option scale`` (the cell's own line would be in the library's unit); NetlistError for a
    malformed library, with file, line and the line quoted. With ``root``, files outside it are refused.
    """
    request = (
        path, section, frozenset(name.lower() for name in wanted), tuple(sorted((sizes or {}).items())),
        tuple(sorted((overrides or {}).items())), root,
    )  # fmt: skip
    kept = _CUT.get(request)
    if kept is None or any(_modified(file) != stamp for file, stamp in kept[1]):
        if len(_CUT) >= CUT_MAX:
            _CUT.clear()
        lines = list(statements(path, section, root))
        stamps = tuple((file, _modified(file)) for file in {path, *(line.path for line in lines)})
        kept = _CUT[request] = _cut(lines, path, section, request[2], sizes or {}, overrides or {}), stamps
    return kept[0]


CUT_MAX = 64
_CUT: dict[object, tuple[ModelText, tuple[tuple[Path, int], ...]]] = {}
"""Texts cut in this process, with the time stamps of the files they came from: every deck of a campaign asks again."""


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _cut(
    lines: list[Statement], path: Path, section: str, wanted: Collection[str],
    sizes: Mapping[str, frozenset[Size] | None], overrides: Mapping[str, float],
) -> ModelText:  # fmt: skip
    parts = _sort(lines)
    where = f"section {section!r} of {path}"
    names = _reach(wanted, parts, where)
    kept = _override(parts.parameters, overrides, where)
    for name in names:
        kept += parts.models.get(name, [])
        kept += chosen_bins(parts.subckts.get(name, []), sizes.get(name), parts.scale)
    for line in kept:
        _screen(line)
    head = [
        f"Cut out of {path.name}, section {section or '(none)'}: {', '.join(names)}.",
        "Changed: other devices, comments and parameters that ngspice ignores are left out, lines joined"
        + (f", .option scale = {parts.scale!r} multiplied into the instances." if parts.scale != 1.0 else "."),
    ]
    sources = sorted({line.path for line in kept})
    for source in sources:
        head += ["", f"{_relative(source, path)} begins:", *library_file(source).head]
    text = [f"*| {said}".rstrip() for said in head]  # never '*#', which ngspice runs
    text += [rewritten(line, parts.scale) for line in kept]
    files = tuple((_relative(source, path), library_file(source).sha256) for source in sources)
    return ModelText(section.lower(), "\n".join(text) + "\n", tuple(names), files)


@dataclass(slots=True)
class _Section:
    """Statements of a section, sorted: global parameters, subcircuits and global models by name, and the unit."""

    parameters: list[Statement]
    subckts: dict[str, list[Statement]]
    models: dict[str, list[Statement]]
    scale: float = 1.0


def _sort(lines: Iterable[Statement]) -> _Section:
    section = _Section([], {}, {})
    depth, inside = 0, []
    for line in lines:
        card = line.card
        if card == ".subckt":
            depth += 1
            if depth == 1:
                if line.name in section.subckts:
                    raise line.error("is a second subcircuit of this name in one section", "keep one")
                inside = section.subckts[line.name] = []
        if depth:
            inside.append(line)
            depth -= card == ".ends"
        elif card in {".param", ".func"}:
            section.parameters.append(line)
        elif card == ".model":
            section.models.setdefault(base_name(line), []).append(line)
        elif card in {".option", ".options"}:
            section.scale = _scale(line, section.scale)
        elif card != ".end":
            raise line.error(
                "stands outside every subcircuit",
                "a library holds subcircuits, models, parameters and functions, the rest is the deck's",
            )
    if depth:
        raise inside[0].error("has no .ends", "add it")
    return section


def _scale(line: Statement, before: float) -> float:
    for word in re.sub(r"\s*=\s*", "=", line.text.lower()).split()[1:]:
        key, _, value = word.partition("=")
        number = literal(value)
        if key == "scale" and number is not None and before in {1.0, number}:
            before = number
        elif key != "parser":  # how Xyce spells the same line
            raise line.error("sets an option, which would hold for the whole deck", "only scale is known")
    return before


def _reach(wanted: Iterable[str], parts: _Section, where: str) -> list[str]:
    """``wanted`` and every name they lead to, sorted."""
    stack, found = sorted(wanted), set[str]()
    for name in stack:
        if name not in parts.subckts and name not in parts.models:
            raise SpecError(f"{where} has no device {name!r}; close to it: {_near(name, parts)}")
        if name not in parts.subckts and parts.scale != 1.0:
            raise SpecError(
                f"{where}: {name!r} is a bare model of a library with .option scale = {parts.scale!r}, an option that "
                "would change every other cell of a deck; use the library's subcircuit of it, or a plain value"
            )
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        for line in parts.subckts.get(name, []):
            if line.card[0] != ".":
                words = set(leading_words(line.text.lower()))
                stack += words & (parts.subckts.keys() if line.card[0] == "x" else parts.models.keys())
    return sorted(found)


def _near(name: str, parts: _Section) -> str:
    known = sorted(parts.subckts.keys() | parts.models.keys())
    inside = sorted((k for k in known if name in k), key=len)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return ", ".join(list(dict.fromkeys([*inside, *close]))[:5]) or f"nothing; it has {', '.join(known[:5])} ..."


def _override(lines: list[Statement], overrides: Mapping[str, float], where: str) -> list[Statement]:
    values = {name.lower(): value for name, value in overrides.items()}
    missing = set(values)

    def new_value(match: re.Match[str]) -> str:
        name = match[1].lower()
        missing.discard(name)
        return f"{match[1]}={values[name]!r}" if name in values else match[0]

    changed = [replace(line, text=ASSIGNMENT.sub(new_value, line.text)) for line in lines]
    if missing:
        raise SpecError(f"{where} has no global parameter {min(missing)!r}; name one that it has")
    return changed


def _screen(line: Statement) -> None:
    """A library is read by ngspice like any netlist: the same kinds of line, no other, and no files."""
    card = line.card
    kind = model_type(line) if card == ".model" else "r"
    if (card[0] == "." and card not in _CARDS) or (card[0] != "." and card[0] not in ELEMENT_WORDS):
        raise line.error("is no line that models need", "subcircuits hold elements, models and parameters")
    if kind not in MODEL_TYPES or _UNSAFE.search(line.text):
        raise line.error("needs a file, a code model or odd characters", "allowed are plain models")


def _relative(source: Path, library: Path) -> str:
    """Name of a file of the library, without a path of this machine."""
    return Path(os.path.relpath(source, library.parent)).as_posix()
