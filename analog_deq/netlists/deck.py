"""Printing a deck: circuit lines and analyses (data) become one deterministic ngspice text.

Every deck runs its analyses in a control block, writes each plot to ``out.raw`` in order, then echoes a
sentinel and quits with 0. The driver accepts a run only if sentinel, plots and lengths are all there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from analog_deq.errors import NetlistError
from analog_deq.records import (
    PLOT_NAMES,
    Ac,
    Alter,
    AlterStep,
    Command,
    Dc,
    Deck,
    ExpectedPlot,
    Noise,
    Op,
    Reseed,
    Tran,
)

SENTINEL = "ANALOG_DEQ_DONE"
SPICE_OPTIONS: Mapping[str, float | str | bool] = {
    "reltol": 1e-6, "abstol": 1e-13, "vntol": 1e-9, "gmin": 1e-15, "method": "gear",
}  # fmt: skip
"""Tolerances of every run that measures a cell. Gear has none of the trapezoidal ringing on fast poles."""
EDGE_S = 1e-11
"""How long the step of a source takes."""
SAVES_PER_LINE = 400
"""ngspice drops a ``save`` line of more than about 1000 names without a non-zero exit code."""


def number(value: float) -> str:
    """``repr`` of a finite float: plain SI, no suffix. NetlistError on NaN or infinity."""
    value = float(value)
    if not math.isfinite(value):
        raise NetlistError(f"a deck cannot hold the value {value!r}; check the parameters that made it")
    return repr(value)


def step_points(before: float, after: float) -> str:
    """Times and values of a source's step at the start of a transient, whose operating point has ``before``."""
    return f"0 {number(before)} {number(EDGE_S)} {number(after)}"


def build_deck(
    title: str,
    circuit: Sequence[str],
    commands: Sequence[Command],
    *,
    save: Sequence[str] = (),
    options: Mapping[str, float | str | bool] | None = None,
    files: Sequence[tuple[str, str]] = (),
    temperature_celsius: float = 27.0,
    bound: float = 1e3,
    arguments: Sequence[str] = (),
) -> Deck:
    """Deck of ``circuit`` lines and ``commands``, with the plots it must produce.

    ``save`` lists the vectors to keep (required unless the deck is a noise deck, which must save none:
    ngspice 46 refuses ``noise`` under a ``save``). ``options`` become one ``.options`` card; ``True`` prints a
    bare flag such as ``klu``. Raises NetlistError for a mixed noise deck, a missing save list, a duplicate
    element, a title of more than one line, or non-finite numbers.
    """
    noise = any(isinstance(c, Noise) for c in commands)
    if noise and (save or any(not isinstance(c, (Noise, Alter, AlterStep, Reseed)) for c in commands)):
        raise NetlistError("a noise deck holds noise analyses only and saves nothing; split the deck")
    if noise and options and options.get("klu"):
        raise NetlistError("ngspice has no .noise under KLU; drop the klu option from the noise deck")
    if not noise and not save:
        raise NetlistError("a deck needs a list of vectors to save")
    if not title.isprintable():
        raise NetlistError(f"a deck's title is one line of printable text; got {title!r}")
    _refuse_duplicates(circuit)
    lines = [f"* {title}", *circuit, f".temp {number(temperature_celsius)}"]
    if options:
        flags = [k if v is True else f"{k}={v if isinstance(v, str) else number(v)}" for k, v in options.items()]
        lines.append(".options " + " ".join(flags))
    lines += [".control", "set filetype=binary"]
    for start in range(0, len(save), SAVES_PER_LINE):
        lines.append("save " + " ".join(save[start : start + SAVES_PER_LINE]))
    plots: list[ExpectedPlot] = []
    for command in commands:
        lines += _command_lines(command)
        if not isinstance(command, (Alter, AlterStep, Reseed)):
            if not plots:
                lines.append("set appendwrite")  # only now: the first write replaces what an earlier run left
            plots.append(_expected(command))
    lines += [f"echo {SENTINEL}", "quit 0", ".endc", ".end", ""]
    return Deck("\n".join(lines), tuple(plots), tuple(files), bound, tuple(arguments))


def _refuse_duplicates(circuit: Sequence[str]) -> None:
    seen: set[str] = set()
    for line in circuit:
        name = line.split(None, 1)[0].lower() if line.strip() else ""
        if not name or name[0] in ".*+":
            if name == ".subckt":
                return  # names inside a subcircuit have their own scope; ngspice checks those itself
            continue
        if name in seen:
            raise NetlistError(f"element name {name!r} appears twice (names are case-insensitive)")
        seen.add(name)


def _command_lines(command: Command) -> list[str]:
    match command:
        case Alter(values, "dc"):
            return [f"alter {name} dc = {number(value)}" for name, value in values]
        case Alter(values, parameter):
            return [f"alter @{name}[{parameter}] = {number(value)}" for name, value in values]
        case AlterStep(values):
            return [f"alter @{name}[pwl] = [ {step_points(*pair)} ]" for name, *pair in values]
        case Reseed(seed):
            return [f"setseed {seed}", "reset"]
        case Op():
            analysis = "op"
        case Dc(source, start, stop, step):
            analysis = f"dc {source} {number(start)} {number(stop)} {number(step)}"
        case Tran(step_s, stop_s, max_step_s):
            analysis = f"tran {number(step_s)} {number(stop_s)} 0 {number(max_step_s)}"
        case Ac(per_decade, start_hz, stop_hz):
            analysis = f"ac dec {per_decade} {number(start_hz)} {number(stop_hz)}"
        case Noise(output, source, per_decade, start_hz, stop_hz):
            return [
                f"noise {output} {source} dec {per_decade} {number(start_hz)} {number(stop_hz)}",
                "setplot previous",
                "write out.raw onoise_spectrum",
                "destroy all",
            ]
    return [analysis, "write out.raw", "destroy all"]


def _expected(command: Command) -> ExpectedPlot:
    name = PLOT_NAMES[type(command)]
    match command:
        case Dc():
            return ExpectedPlot(name, command.points, command.stop)
        case Tran():
            return ExpectedPlot(name, None, command.stop_s)
        case Noise() | Ac():
            decades = math.log10(command.stop_hz / command.start_hz)
            return ExpectedPlot(name, None if decades % 1 else round(decades * command.per_decade) + 1, command.stop_hz)
        case _:
            return ExpectedPlot(name, 1)
