"""What a person sees: progress while stages run, their key figures, and the verdict table. No decisions here."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from analog_deq.records import Progress
from analog_deq.units import engineering

if TYPE_CHECKING:
    from analog_deq.pipeline import StageResult
    from analog_deq.spice.doctor import Diagnosis

LINE_INTERVAL_S = 5.0
WIDTH_WITHOUT_TERMINAL = 132
VERDICTS = {0: "pass", 1: "fail", 4: "inconclusive"}
_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
_UNIT_OF_SUFFIX = {
    "_v_per_rthz": "V/rtHz", "_siemens": "S", "_celsius": "degC", "_percent": "%", "_ohm": "ohm", "_hz": "Hz",
    "_s": "s", "_v": "V", "_w": "W", "_j": "J", "_a": "A", "_f": "F",
}  # fmt: skip


def make_console(*, stderr: bool) -> Console:
    """Console on stdout or stderr; off a terminal it is wide enough for the tables."""
    stream: TextIO = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


# ------------------------------------------------------------------ progress


class _RateColumn(ProgressColumn):
    """Steps per second, and how many of them failed."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        text = Text("" if speed is None else f"{speed:.3g}/s", style="progress.data.speed")
        if task.fields["failed"]:
            text.append(f"  {task.fields['failed']} failed", style="bold red")
        return text


class BarProgress(Progress):
    """One live bar for each unit of work, for a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn())
        self._bars = RichProgress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._task = self._bars.add_task("", total=None, visible=False, failed=0)
        self._failed = 0
        self._bars.start()

    def start(self, label: str, total: int) -> None:
        self._failed = 0
        self._task = self._bars.add_task(escape(label), total=total, failed=0)

    def advance(self, steps: int = 1, failed: int = 0) -> None:
        self._failed += failed
        self._bars.update(self._task, advance=steps, failed=self._failed)

    def note(self, text: str) -> None:
        self._bars.console.print(escape(text))

    def close(self) -> None:
        """Leaves the finished bars on the screen and gives the terminal back."""
        self._bars.stop()


class LineProgress(Progress):
    """Plain lines for a log file: one when work starts and ends, between them one every few seconds."""

    def __init__(self, console: Console, interval_s: float = LINE_INTERVAL_S) -> None:
        self._console, self._interval_s = console, interval_s
        self._lock = threading.Lock()
        self._label, self._total, self._done, self._failed = "", 0, 0, 0
        self._began = self._printed = time.monotonic()

    def start(self, label: str, total: int) -> None:
        with self._lock:
            self._label, self._total, self._done, self._failed = label, total, 0, 0
            self._began = self._printed = time.monotonic()
            self._print(f"{label}: {total} to do")

    def advance(self, steps: int = 1, failed: int = 0) -> None:
        with self._lock:
            before, now = self._done, time.monotonic()
            self._done += steps
            self._failed += failed
            if before < self._total <= self._done:
                self._print(f"{self._state()} in {now - self._began:.1f} s")
            elif now - self._printed >= self._interval_s:
                self._printed = now
                rate = self._done / (now - self._began)
                left = f", {(self._total - self._done) / rate:.0f} s left" if rate and self._done < self._total else ""
                self._print(f"{self._state()}, {rate:.3g}/s{left}")

    def note(self, text: str) -> None:
        self._print(text)

    def _state(self) -> str:
        failures = f" ({self._failed} failed)" if self._failed else ""
        return f"{self._label}: {self._done}/{self._total}{failures}"

    def _print(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress on stderr: a bar on a terminal, lines elsewhere."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield LineProgress(console)
        return
    bar = BarProgress(console)
    try:
        yield bar
    finally:
        bar.close()


# ------------------------------------------------------------------ results


def format_figure(name: str, value: object) -> tuple[str, str]:
    """Label and text of one key figure; the unit comes from the ending of its name.

    >>> format_figure("settling_time_s", 1.2e-6)
    ('settling time', '1.2 us')
    """
    unit = ""
    for suffix, symbol in _UNIT_OF_SUFFIX.items():
        if name.endswith(suffix) and isinstance(value, int | float):
            name, unit = name.removesuffix(suffix), symbol
            break
    return name.replace("_", " "), format_value(value, unit)


def format_value(value: object, unit: str = "") -> str:
    """Text of a number with its unit, or of anything else; ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10**9 and unit in {"", "-"}:
        return str(value)
    if isinstance(value, int | float):
        return engineering(float(value), "" if unit == "-" else unit)
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(format_value(item, unit) for item in value)
    return str(value)


def format_limit(limit: Mapping[str, float | None] | None, unit: str) -> str:
    """Text such as ``<= 1 %``, ``>= 99 %`` or ``0 % .. 5 %``; ``-`` when nothing is asked."""
    low, high = (limit or {}).get("min"), (limit or {}).get("max")
    if low is not None and high is not None:
        return f"{format_value(low, unit)} .. {format_value(high, unit)}"
    if low is not None:
        return f">= {format_value(low, unit)}"
    return "-" if high is None else f"<= {format_value(high, unit)}"


def render_stages(console: Console, results: Sequence[StageResult]) -> None:
    """Prints for each stage its time, whether it was reused, its key figures and its files."""
    for result in results:
        took = "reused, finished earlier" if result.reused else f"{result.seconds:.1f} s"
        console.print(f"[bold]{escape(result.stage)}[/bold]  {took}")
        figures = [format_figure(name, value) for name, value in _flat(result.summary)]
        lines = figures + [(name.replace("_", " "), str(path)) for name, path in result.outputs.items()]
        width = max((len(label) for label, _ in lines), default=0)
        for label, text in lines:
            console.print(f"  {label:<{width}}  {text}", markup=False, soft_wrap=True)


def render_verdict(console: Console, result: StageResult) -> None:
    """Prints the verdict table of a verify stage, where each failing check was worst, and the report."""
    table = Table(title="verdict", title_justify="left", title_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("quantity")
    for name in ("value", "limit", "n", "interval"):
        table.add_column(name, justify="right")
    table.add_column("status", no_wrap=True)
    for check in result.checks:
        unit, status = str(check.get("unit") or ""), str(check["status"])
        interval = format_value(check["interval"], unit) if check.get("interval") else "-"
        cells = [str(check["id"]), str(check.get("quantity") or "-"), format_value(check.get("value"), unit)]
        cells += [format_limit(check.get("limit"), unit), format_value(check.get("n")), interval]
        table.add_row(*(escape(cell) for cell in cells), Text(status, style=_STYLES.get(status, "")))
    console.print(table)
    for check in result.checks:
        if check["status"] != "pass" and check.get("worst"):
            worst = ", ".join(f"{key} {value}" for key, value in check["worst"].items() if value is not None)
            console.print(f"{check['id']} is worst at: {worst}", markup=False, soft_wrap=True)
    missed = sum(check["status"] != "pass" for check in result.checks)
    verdict = VERDICTS.get(result.exit_code, f"error (exit {result.exit_code})")
    counts = f"{len(result.checks)} checks, {missed} not passed"
    console.print(Text.assemble("verdict: ", (verdict.upper(), _STYLES.get(verdict, "bold red")), f"  ({counts})"))
    for path in result.outputs.values():
        if path.suffix == ".html":
            console.print(f"report:  {path}", markup=False, soft_wrap=True)


def render_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Prints the versions found and every problem with its mend."""
    width = max((len(name) for name in diagnosis.versions), default=0)
    for name, version in diagnosis.versions.items():
        console.print(f"{name:<{width}}  {version}", markup=False, soft_wrap=True)
    for problem in diagnosis.problems:
        console.print(f"[bold red]problem:[/bold red] {escape(problem)}", soft_wrap=True)
    console.print("[bold green]ok[/bold green]" if diagnosis.ok else "[bold red]not ready[/bold red]")


def _flat(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
