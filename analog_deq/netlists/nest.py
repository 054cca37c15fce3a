"""One subcircuit out of a designer's file: helpers, models, parameters and functions move inside the cell's own.

At the top of a deck all such names are global, so two cells that bring their own ``nch`` would share one model.
Measured on ngspice 39 and 46: models, parameters, functions and subcircuits defined inside a subcircuit belong to it
and to what it defines. The one exception is a table ngspice keeps of subcircuits with parameters, by name alone; so
helpers get the cell's name in front.
"""

from __future__ import annotations

from collections.abc import Iterator

from analog_deq.errors import NetlistError
from analog_deq.netlists.calls import callee
from analog_deq.netlists.header import Scope, read_scopes
from analog_deq.netlists.lines import LogicalLine, logical_lines, split_params


def nest(text: str, subckt: str, source: str = "netlist") -> str:
    """``text`` with `.subckt` ``subckt`` alone at the top, holding all it needs; unused helpers are left out.

    Lines that move leave an empty line behind, so that the cell's own lines keep their numbers. Text that is already
    so comes back unchanged. Raises NetlistError for no such subcircuit, and for a name at the top that the cell
    defines too: inside it, one would overrule the other.

    >>> print(nest(".model d1 d\\n.subckt clip a b\\nD1 a b d1\\n.ends\\n", "clip"))
    <BLANKLINE>
    .subckt clip a b
    D1 a b d1
    .model d1 d
    .ends
    <BLANKLINE>
    """
    root = read_scopes(text, source)
    cell = next((scope for scope in root.inner if scope.header.name == subckt.lower()), None)
    if cell is None or cell.opening is None or cell.closing is None:
        has = ", ".join(scope.header.name for scope in root.inner) or "none"
        raise NetlistError(f"{source}: no '.subckt {subckt}' at the top of this file; it has {has}")
    _refuse_clashes(root, cell)
    helpers = _called(cell)
    names = {scope: f"{cell.header.name}__{scope.header.name}" for top in (cell, *helpers) for scope in top.walk()}
    numbers = [line.number for line in logical_lines(text, source)]
    physical = text.split("\n")
    last = dict(zip(numbers, [n - 1 for n in numbers[1:]] + [len(physical)], strict=True))
    for line, renamed in _renamed(cell, helpers, names):
        physical[line.number - 1 : last[line.number]] = [renamed, *[""] * (last[line.number] - line.number)]
    moved: list[str] = []
    for scope in root.inner:
        if scope is not cell and scope.opening is not None and scope.closing is not None:
            block = slice(scope.opening.number - 1, last[scope.closing.number])
            moved += [raw for raw in physical[block] if raw.strip()] if scope in helpers else []
            physical[block] = [""] * (block.stop - block.start)
    for line in root.lines:
        block = slice(line.number - 1, last[line.number])
        moved += [raw for raw in physical[block] if raw.strip()]
        physical[block] = [""] * (block.stop - block.start)
    end = cell.closing.number - 1
    return "\n".join([*physical[:end], *moved, *physical[end:]])


def _refuse_clashes(root: Scope, cell: Scope) -> None:
    own = {*cell.header.params, *cell.params(), *(scope.header.name for scope in cell.inner), *_defined(cell)}
    for name, line in (root.params() | _defined(root)).items():
        if name in own:
            raise line.error(f"defines {name!r}, as .subckt {cell.header.name} does itself", "rename one of them")
    for scope in root.inner:
        if scope.header.name in own and scope.opening is not None:
            raise scope.opening.error(f"is defined inside .subckt {cell.header.name} too", "rename one of them")


def _defined(scope: Scope) -> dict[str, LogicalLine]:
    """Names of the models and functions of ``scope`` itself."""
    cards = [line for line in scope.lines if line.card in {".model", ".func"} and len(line.text.split()) > 1]
    return {line.text.lower().split()[1].partition("(")[0]: line for line in cards}


def _called(cell: Scope) -> list[Scope]:
    """Helpers at the top that ``cell`` calls, straight or through others, in order of their first call."""
    found: list[Scope] = []
    waiting = [cell]
    while waiting:
        for scope in waiting.pop(0).walk():
            for line in scope.lines:
                called = scope.find(callee(line)[1]) if line.card[0] == "x" else None
                if called is not None and called.outer is cell.outer and called not in (cell, *found):
                    found.append(called)
                    waiting.append(called)
    return found


def _renamed(cell: Scope, helpers: list[Scope], names: dict[Scope, str]) -> Iterator[tuple[LogicalLine, str]]:
    """Lines that name a helper, with the name it gets."""
    for scope in [s for top in (cell, *helpers) for s in top.walk()]:
        if scope is not cell and scope.opening is not None and scope.closing is not None:
            card, _, rest = scope.opening.text.split(None, 2)
            yield scope.opening, f"{card} {names[scope]} {rest}"
            yield scope.closing, ".ends"
        for line in scope.lines:
            called = scope.find(callee(line)[1]) if line.card[0] == "x" else None
            if called is not None and called is not cell:
                before, params = split_params(line.text)
                yield line, f"{before.rsplit(None, 1)[0]} {names[called]} {params}".rstrip()
