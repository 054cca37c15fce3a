"""Progress that a person can watch: a live bar on a terminal, plain lines in a log file. Both on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
from rich.text import Text

from analog_deq.console import make_console
from analog_deq.records import Progress

LINE_INTERVAL_S = 5.0


class _RateColumn(ProgressColumn):
    """Steps per second, and how many of them failed."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        text = Text("" if speed is None else _rate(speed), style="progress.data.speed")
        if task.fields["failed"]:
            text.append(f"  {task.fields['failed']} failed", style="bold red")
        return text


def _rate(steps_per_s: float) -> str:
    return f"{steps_per_s:.3g}/s" if steps_per_s < 100 else f"{steps_per_s:.0f}/s"


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
                self._print(f"{self._state()}, {_rate(rate)}{left}")

    def note(self, text: str) -> None:
        self._print(text)

    def _state(self) -> str:
        failures = f" ({self._failed} failed)" if self._failed else ""
        return f"{self._label}: {self._done}/{self._total}{failures}"

    def _print(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)


@contextmanager
def drawn_progress() -> Iterator[Progress]:
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
