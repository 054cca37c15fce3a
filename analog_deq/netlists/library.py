"""Finding cells: by the name of a shipped one, or by the path of a contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analog_deq.errors import SpecError
from analog_deq.netlists.contract import Cell, read_contract
from analog_deq.netlists.devices import Size, device_sizes
from analog_deq.netlists.model_library import library_root, resolve_library
from analog_deq.netlists.models import prune_library
from analog_deq.resources import shipped


def load_cell(name_or_path: str | Path) -> Cell:
    """Cell of a shipped contract (bare name) or of a contract of one's own (a path ending in ``.toml``).

    Raises SpecError when there is no such cell, and what :func:`read_contract` raises.

    >>> load_cell("opamp_macro").role
    'opamp'
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        return read_contract(Path(text))
    if text not in list_cells():
        raise SpecError(
            f"cell = {text!r}: no shipped cell of that name ({', '.join(list_cells())}); "
            "for a cell of your own give the path of its .toml"
        )
    return read_contract(shipped("netlists/cells") / f"{text}.toml")


def list_cells() -> tuple[str, ...]:
    """Names of the shipped cells, sorted."""
    return tuple(sorted(path.stem for path in shipped("netlists/cells").glob("*.toml")))


def cell_files(cells: Sequence[Cell]) -> tuple[tuple[str, str], ...]:
    """(relative name, text) of every file a deck with ``cells`` includes, each once, sorted by name.

    SpecError when two cells bring different files of one name, or different subcircuits of one name: ngspice would
    take one of them for both.
    """
    texts: dict[str, Cell] = {}
    subckts: dict[str, Cell] = {}
    for cell in cells:
        name, text = cell.file
        for what, key, seen in (("file", name, texts), ("subcircuit", cell.header.name, subckts)):
            other = seen.setdefault(key, cell)
            if other.file[1] != text:
                raise SpecError(
                    f"{cell.source} and {other.source}: two netlists with the {what} {key!r} cannot share a deck; "
                    "rename one of them"
                )
    return (*_model_files(cells), *((name, texts[name].file[1]) for name in sorted(texts)))


def _model_files(cells: Sequence[Cell]) -> tuple[tuple[str, str], ...]:
    """One file per library section, holding what all the cells that use it need; before the cells in every deck."""
    by_section: dict[tuple[Path, Path | None, str], list[Cell]] = {}
    for cell in cells:
        if cell.contract.models is not None:
            named, folder = cell.contract.models.lib, Path(cell.source).parent
            key = (resolve_library(named, folder), library_root(named, folder), cell.section)
            by_section.setdefault(key, []).append(cell)
    files: dict[str, str] = {}
    for (library, root, section), users in by_section.items():
        sizes: dict[str, frozenset[Size] | None] = {}
        for cell in users:
            for name, used in device_sizes(cell.netlist).items():
                before = sizes.get(name, frozenset())
                sizes[name] = None if used is None or before is None else before | used
        overrides = {key: value for cell in users for key, value in cell.library_overrides.items()}
        text = prune_library(library, section, sizes, sizes, overrides=overrides, root=root).text
        name = f"models_{section or 'all'}.spice"
        if name in files:
            raise SpecError(f"{users[0].source}: a second model library with the section {section!r} in one deck")
        files[name] = text
    return tuple(sorted(files.items()))


def include_lines(cells: Sequence[Cell]) -> list[str]:
    """The ``.include`` lines for :func:`cell_files`."""
    return [f".include {name}" for name, _ in cell_files(cells)]


def cell_arguments(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Definitions ngspice must be started with for these cells' models (``Deck.arguments``)."""
    return tuple(sorted({word for cell in cells if cell.contract.models for word in cell.contract.models.arguments}))
