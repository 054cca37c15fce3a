"""Shared by the benchmarks: one row format, interleaved timing, and a description of the machine.

A row is ``{"id", "ours", "peer", "peer_name", "ratio", "bar", "holds", "n", "spread", "machine"}``; README.md says what
each key means. Scripts yield rows as they are measured, so that an interrupted run has printed what it knew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analog_deq.errors import EXIT_INTERRUPTED, AnalogDeqError
from analog_deq.spice.simulator import Simulator

Span = tuple[float, float]
KEYS = ("id", "ours", "peer", "peer_name", "ratio", "bar", "holds", "n", "spread", "machine")
SETTLE_S = 0.05
"""Pause before each timed call: whoever went before has written files, and the kernel may still be busy with them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. A bar is on ``ratio`` when there is one (at least), else on ``ours`` (at most)."""

    id: str
    ours: float
    machine: str
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    bar: float | None = None
    holds: bool | None = None
    n: int = 1
    spread: Mapping[str, Span] | None = None

    def to_json(self) -> str:
        """One line of JSON with exactly the keys of the format, in its order; ValueError for NaN or infinity."""
        content = asdict(self)
        return json.dumps({key: content[key] for key in KEYS}, allow_nan=False)


def speed_row(
    name: str,
    machine: str,
    ours_s: Sequence[float],
    peer_s: Sequence[float],
    peer_name: str,
    *,
    bar: float | None = None,
    per: tuple[float, float] = (1.0, 1.0),
) -> Row:
    """Smallest time of each side and their ratio, peer over ours; ``per`` divides (ours, peer), such as by images."""
    ours, peer = [t / per[0] for t in ours_s], [t / per[1] for t in peer_s]
    ratio = min(peer) / min(ours)
    spread = {"ours": (min(ours), max(ours)), "peer": (min(peer), max(peer))}
    holds = None if bar is None else ratio >= bar
    return Row(name, min(ours), machine, min(peer), peer_name, ratio, bar, holds, len(ours), spread)


def time_row(name: str, machine: str, ours_s: Sequence[float], *, bar: float | None = None, per: float = 1.0) -> Row:
    """Smallest time of our side alone; a bar is the most it may take."""
    ours = [t / per for t in ours_s]
    holds = None if bar is None else min(ours) <= bar
    return Row(name, min(ours), machine, bar=bar, holds=holds, n=len(ours), spread={"ours": (min(ours), max(ours))})


def value_row(
    name: str, machine: str, value: float, n: int, *, bar: float | None = None, interval: Span | None = None
) -> Row:
    """A figure that is no time; a bar is the most it may be. ``interval`` goes into the spread."""
    holds = None if bar is None else value <= bar
    return Row(name, value, machine, bar=bar, holds=holds, n=n, spread=None if interval is None else {"ours": interval})


def interleave(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of every repeat of each side. Sides take turns, and who goes first changes with every round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(SETTLE_S)
            start = time.perf_counter()
            sides[name]()
            times[name].append(time.perf_counter() - start)
    return times


def machine_name(simulator: Simulator | None = None) -> str:
    """Processor, cores this process may use, system, Python, and the ngspice in use; no host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores", _system(), f"Python {platform.python_version()}"]
    if simulator is not None:
        parts.append(f"ngspice {simulator.version} {simulator.solver}")
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser with the options every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, epilog=f"example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="one JSON line a row instead of a table")
    return made


def positive(text: str) -> int:
    """A whole number of at least 1, from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def add_count(made: argparse.ArgumentParser, option: str, default: int, what: str) -> None:
    """An option that is a whole number of at least 1."""
    made.add_argument(option, type=positive, default=default, metavar="N", help=f"{what} ({default})")


def note(text: str) -> None:
    """Talk for the person watching, on stderr."""
    print(text, file=sys.stderr, flush=True)


def show(rows: Iterable[Row], as_json: bool) -> int:
    """Print rows as they come (JSON) or as one table at the end; the exit code, 0 even if a bar does not hold."""
    try:
        if as_json:
            for row in rows:
                print(row.to_json(), flush=True)
        else:
            collected: list[Row] = []
            try:
                for row in rows:
                    note(f"  {row.id}: {_number(row.ours)}")
                    collected.append(row)
            finally:
                if collected:
                    print("\n".join(table(collected)))
    except AnalogDeqError as error:
        note(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("interrupted; the rows above were measured")
        return EXIT_INTERRUPTED
    return 0


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of a table of rows, then who they were measured on."""
    head = ("id", "ours", "peer", "ratio", "bar", "holds", "n", "ours min..max", "peer min..max", "peer is")
    cells: list[tuple[str, ...]] = [head]
    for row in rows:
        holds = "" if row.holds is None else ("yes" if row.holds else "NO")
        spans = [_span(row.spread, side) for side in ("ours", "peer")]
        numbers = [_number(v) for v in (row.ours, row.peer, row.ratio, row.bar)]
        cells.append((row.id, *numbers, holds, str(row.n), *spans, row.peer_name or ""))
    widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
    for line in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
    for machine in dict.fromkeys(row.machine for row in rows):
        yield f"machine: {machine}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _span(spread: Mapping[str, Any] | None, side: str) -> str:
    return f"{spread[side][0]:.3g}..{spread[side][1]:.3g}" if spread and side in spread else ""
