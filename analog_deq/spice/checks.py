"""Deciding whether a run counts. ngspice's exit code does not: most failures end with 0.

A run counts only when its deck was well formed, its log holds no line of trouble, and every promised plot is there,
whole, finite and of a credible size. Each pattern below was seen on ngspice 39 or 46; docs/decisions/0001-one-driver.md
tells why the three levels of stepping are judged as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from analog_deq.errors import ConvergenceError, MissingPlotError, NetlistError, SimulationError
from analog_deq.records import Deck, ExpectedPlot, Plot

_BENIGN = re.compile(
    r"can't find (the initialization file|init)|no compatibility mode|dc value used for op|^circuit:", re.IGNORECASE
)
# Node tables hold names people chose; a node called "error_amp" is no error.
_NODE_TABLE = re.compile(r"^\S+(\s+[-+]?(\d[\d.]*(e[-+]?\d+)?|nan|inf))+\s*\*?$", re.IGNORECASE)
_CONVERGENCE = re.compile(
    r"singular|no convergence|without convergence|iteration limit|timestep too small|trouble with|"
    r"transient op (started|failed|finished)|operating point could not|dc solution failed",
    re.IGNORECASE,
)
_TROUBLE = re.compile(
    r"error|fatal|abort|out of range|can't find model|not a valid|ignored|resistance to ?o? low|is too small, set|"
    r"undefined|unknown|unable|unimplemented|not available|zero length|no \.measure possible|not supported|"
    r"can't allocate|too many args|failed|interrupted|illegal",
    re.IGNORECASE,
)
# ngspice 39 tells of every step of it too: "Last gmin step failed" is not yet the end.
_STEPPING = re.compile(r"(gmin|source) step(?:ping)?\b\s*(failed|completed)?", re.IGNORECASE)
_CHATTER = re.compile(
    r"^(total (dram|elapsed|analysis|cpu)|dram currently|maximum ngspice|current ngspice|shared ngspice|text \(code\)|"
    r"warning: can't find the init|note: no compatibility mode|stack =|"
    r"library pages|no\. of data rows|doing analysis|using (sparse|klu)|binary raw file|ngspice-\d+ done)",
    re.IGNORECASE,
)
_COMMAND_COMMENT = re.compile(r"\*\s*(#|ng_script)")
_SWEEP_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class LogFlags:
    """What an accepted log still has to say: ``stepping``, an operating point needed gmin or source stepping."""

    stepping: bool


def check_deck(deck: Deck) -> None:
    """Nothing, when the deck cannot be misread silently. NetlistError otherwise, quoting the line.

    ngspice takes any first line as the title (and drops an element there), accepts a missing ``.end``, and runs
    ``*#`` comments as shell-capable commands. Included files must be plain relative names without control blocks, and
    the deck has one control block at most.
    """
    lines = deck.text.splitlines()
    first = lines[0] if lines else ""
    if not first.startswith(("*", ".title")):
        raise NetlistError(f"a deck's first line is its title and must start with '*'; got {first!r}")
    if not any(line.strip() for line in lines) or [x for x in lines if x.strip()][-1].strip().lower() != ".end":
        raise NetlistError("a deck must end with '.end'; ngspice accepts a cut-off one without a word")
    for source, text in (("deck", deck.text), *deck.files):
        for number, line in enumerate(text.splitlines(), 1):
            start = line.strip().lower()
            if _COMMAND_COMMENT.match(start) or (source != "deck" and start.startswith((".control", ".endc"))):
                raise NetlistError(f"{source}:{number}: {line.strip()!r} can be run as a command by ngspice; remove it")
    blocks = sum(line.strip().lower().startswith(".control") for line in lines)
    if blocks > 1:
        raise NetlistError(f"a deck has one control block, its own; this one has {blocks}, so a name carried one in")
    for name, _ in deck.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name in {"", "deck.cir", "out.raw", "ngspice.log"}:
            raise NetlistError(f"a deck cannot include a file named {name!r}; use a relative name of its own")


def check_log(text: str, *, folder: Path | None = None) -> LogFlags:
    """Flags of a log without trouble; ConvergenceError or SimulationError quoting the first bad line otherwise.

    Stepping that completed is accepted and flagged, even when an easier kind failed before it: the last Newton
    solve met ngspice's tolerances with the helper removed. A singular matrix anywhere, stepping that never
    completed, and the transient fallback (a snapshot of a waveform, not a solution) are rejected.

    >>> check_log("Note: Starting dynamic gmin stepping\\nNote: Dynamic gmin stepping completed\\n")
    LogFlags(stepping=True)
    """
    stepping = False
    unresolved = trouble = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line, following in pairwise([*lines, ""]):
        if _BENIGN.search(line) or _NODE_TABLE.match(line):
            continue
        if _CONVERGENCE.search(line):
            raise ConvergenceError(f"no converged solution: {line}", folder=folder, log_tail=log_tail(text))
        if step := _STEPPING.search(line):
            stepping = True
            unresolved = "" if (step[2] or "").lower() == "completed" else line
        elif not trouble and _TROUBLE.search(line):
            trouble = f"{line} {following}" if line.endswith(":") else line  # the cause stands below
    if unresolved:
        raise ConvergenceError(f"no converged solution: {unresolved}", folder=folder, log_tail=log_tail(text))
    if trouble:
        raise SimulationError(f"ngspice complained: {trouble}", folder=folder, log_tail=log_tail(text))
    return LogFlags(stepping)


def check_plots(
    plots: Sequence[Plot],
    expected: Sequence[ExpectedPlot],
    bound: float,
    *,
    saved: Sequence[str] = (),
    folder: Path | None = None,
    tail: str = "",
) -> None:
    """Nothing, when ``plots`` are what a deck promised; MissingPlotError or SimulationError otherwise.

    Names and order must match, points be exact where stated, the last sweep value reach its end to 1e-9 of the
    span, every vector of ``saved`` be present, every value be finite and below ``bound`` in magnitude. ngspice
    clamps an overflow to 1e99 and a division by zero to 1e32 without a message: the bound is what catches them.
    """
    names, wanted = [plot.name for plot in plots], [plot.name for plot in expected]
    if names != wanted:
        raise MissingPlotError(f"plots are {names}, expected {wanted}", folder=folder, log_tail=tail)
    for index, (plot, promise) in enumerate(zip(plots, expected, strict=True)):
        where = f"plot {index} '{plot.name}'"
        if promise.points is not None and len(plot.data) != promise.points:
            raise MissingPlotError(
                f"{where} has {len(plot.data)} points, expected {promise.points}", folder=folder, log_tail=tail
            )
        absent = _absent(plot, saved)
        if absent:
            raise MissingPlotError(
                f"{where} lacks {len(absent)} saved vectors, first {absent[0]!r}; check the names in the save list",
                folder=folder,
                log_tail=tail,
            )
        swept = 0
        if promise.end is not None:
            swept = 1  # column 0 is time, frequency or the swept source: compared with its end, not with the bound
            last, span = float(plot.sweep[-1]), max(abs(promise.end), abs(promise.end - float(plot.sweep[0])))
            if not abs(last - promise.end) <= _SWEEP_TOLERANCE * span:
                raise MissingPlotError(
                    f"{where} stops at {last!r}, expected {promise.end!r}", folder=folder, log_tail=tail
                )
        magnitude = np.abs(plot.data)
        bad = ~np.isfinite(magnitude)
        bad[:, swept:] |= magnitude[:, swept:] >= bound
        if bad.any():
            row, column = (int(k) for k in np.argwhere(bad)[0])
            raise SimulationError(
                f"{where}: {plot.variables[column]} = {plot.data[row, column].item()!r} at point {row} is not finite "
                f"or not below the bound {bound:g}",
                folder=folder,
                log_tail=tail,
            )


def saved_vectors(text: str) -> tuple[str, ...]:
    """Vectors named by the ``save`` lines of a deck, as ngspice spells them in a raw file; wildcards are left out."""
    vectors: list[str] = []
    for line in text.splitlines():
        words = line.lower().split()
        if words and words[0] in {"save", ".save"}:
            vectors += [_raw_name(word) for word in words[1:] if word not in {"all", "none"} and "*" not in word]
    return tuple(vectors)


def log_tail(text: str, lines: int = 12) -> str:
    """The last ``lines`` lines of a log that say something; memory statistics and progress are left out."""
    return "\n".join([x for x in text.splitlines() if x.strip() and not _CHATTER.match(x.strip())][-lines:])


def _raw_name(word: str) -> str:
    if word.startswith("@") or "(" in word:
        return word
    return f"i({word.removesuffix('#branch')})" if word.endswith("#branch") else f"v({word})"


def _absent(plot: Plot, saved: Sequence[str]) -> list[str]:
    present = set(plot.variables)
    return [x for x in saved if not present.intersection((x, f"i({x})", f"v({x})"))]
