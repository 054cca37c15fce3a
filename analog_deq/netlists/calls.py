"""Names inside a netlist: what is defined twice, and instances that ngspice wires or sets otherwise than written.

Each case was measured on ngspice 39 and 46: the first of two `.subckt` or `.model` cards of one name wins, the last
`.func` and `.param`; an unknown parameter of an instance is dropped; and the parameters of an instance are evaluated
one after the other in the called subcircuit, so ``X1 a b sub x={y} y={x}`` sets both to the caller's y.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analog_deq.netlists.header import Scope, check_params
from analog_deq.netlists.lines import LogicalLine, parse_assignments, split_params

MAX_SIZE = 1_000_000
"""Lines a cell may become when its instances are expanded; a chain of 40 pairs would be 10^12."""

_IDENTIFIER = re.compile(r"(?<![\w.])[a-z_]\w*(?!\w*\s*\()")


def check_names(root: Scope) -> None:
    """Nothing, when every name below ``root`` means one thing and every instance fits what it calls.

    NetlistError quoting the line otherwise. Subcircuits that the text does not define are left to the simulator.
    """
    sizes: dict[Scope, int] = {}
    for scope in root.walk():
        check_params(scope)
        seen: dict[tuple[str, str], LogicalLine] = {}
        for kind, name, line in _definitions(scope):
            if (kind, name) in seen:
                raise line.error(
                    f"defines {kind} {name!r} again (see {seen[kind, name].where}): ngspice keeps one without a word",
                    "rename or remove one",
                )
            seen[kind, name] = line
        for line in scope.lines:
            if line.card[0] == "x":
                _check_call(line, scope)
        _size(scope, sizes)


def callee(line: LogicalLine) -> tuple[list[str], str, dict[str, str]]:
    """(nodes, name of the subcircuit, assignments) of an instance line, all in lower case."""
    before, params = split_params(line.text)
    if "," in before:
        raise line.error("has a comma among its nodes, where ngspice 46 loses nodes", "put blanks between them")
    words = re.sub(r"[()]", " ", before).lower().split()
    if len(words) < 3 or before.split()[-1].lower() != words[-1]:
        raise line.error("is no instance of a subcircuit", "write 'Xname node node ... subcircuit name=value ...'")
    return words[1:-1], words[-1], {k: v.lower() for k, v in parse_assignments(params, line).items()}


def _definitions(scope: Scope) -> Iterator[tuple[str, str, LogicalLine]]:
    for inner in scope.inner:
        if inner.opening is not None:
            yield ".subckt", inner.header.name, inner.opening
    for line in scope.lines:
        words = line.text.lower().split()
        if line.card == ".model" and len(words) > 1:
            yield ".model", words[1].partition("(")[0], line
        elif line.card == ".func" and len(words) > 1:
            yield ".func", words[1].partition("(")[0], line
        elif line.card == ".param":
            for name in parse_assignments(line.text.split(None, 1)[-1], line):
                yield ".param", name, line


def _check_call(line: LogicalLine, scope: Scope) -> None:
    nodes, name, given = callee(line)
    called = scope.find(name)
    if called is None:
        return
    if len(nodes) != len(called.header.pins):
        raise line.error(
            f"connects {len(nodes)} nodes to {name!r}, which has the {len(called.header.pins)} pins "
            f"{' '.join(called.header.pins)}",
            "connect each pin once",
        )
    formal = called.header.params.keys() | called.params().keys() | {"m"}
    for key, value in given.items():
        if key not in formal:
            has = ", ".join(sorted(formal - {"m"})) or "none"
            raise line.error(f"sets {key!r}, which {name!r} has not (it has {has}): ngspice drops it", "mend the name")
        for used in _IDENTIFIER.findall(value):
            if used != key and used in formal and given.get(used, "").strip("{}' ") != used:
                raise line.error(
                    f"uses {used!r} for {key!r}, and {name!r} has a parameter of that name: ngspice takes that one",
                    f"rename one of them, or pass {used}={{{used}}} unchanged too",
                )


def _size(scope: Scope, sizes: dict[Scope, int]) -> int:
    """Lines that one instance of ``scope`` becomes; ``sizes`` keeps what is known, 0 what is being built."""
    sizes[scope] = 0
    total = len(scope.lines)
    for line in scope.lines:
        called = scope.find(callee(line)[1]) if line.card[0] == "x" else None
        if called is None:
            continue
        if sizes.get(called) == 0:
            raise line.error(f"calls {called.header.name!r}, which is being built", "break the circle")
        total += sizes.get(called) or _size(called, sizes)
        if total > MAX_SIZE:
            raise line.error(f"is one instance too many: more than {MAX_SIZE} lines when expanded", "build less")
    sizes[scope] = max(total, 1)
    return sizes[scope]
