"""Progress on a terminal and in a log file, and the text of figures."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from analog_deq import progress as progress_module
from analog_deq.console import format_figure, format_limit
from analog_deq.progress import BarProgress, LineProgress


def screen(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=100, highlight=False, color_system=None), stream


def test_lines_are_few_and_tell_rate_time_left_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    out, stream = screen(terminal=False)
    progress = LineProgress(out)
    progress.start("dies", 200)
    for _ in range(200):
        now[0] += 0.1
        progress.advance(failed=1 if now[0] < 100.25 else 0)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "dies: 200 to do"
    assert lines[-1] == "dies: 200/200 (2 failed) in 20.0 s"
    assert len(lines) == 5
    assert "(2 failed), 10/s, 1" in lines[1]
    assert lines[1].endswith("s left")


def test_work_of_unknown_or_exceeded_length_never_raises() -> None:
    for terminal, kind in ((False, LineProgress), (True, BarProgress)):
        progress = kind(screen(terminal=terminal)[0])
        progress.advance()
        progress.start("none", 0)
        progress.advance(3, failed=3)
        if isinstance(progress, BarProgress):
            progress.close()


def test_bar_shows_label_count_and_failures() -> None:
    out, stream = screen(terminal=True)
    progress = BarProgress(out)
    progress.start("images [x]", 3)
    workers = [threading.Thread(target=progress.advance, kwargs={"failed": k == 0}) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    progress.note("half [way]")
    progress.close()
    for text in ("images [x]", "3/3", "1 failed", "half [way]"):
        assert text in stream.getvalue()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("noise_v_per_rthz", 2e-9, ("noise", "2 nV/rtHz")),
        ("accuracy_percent", 96.5, ("accuracy", "96.5 %")),
        ("settling_s", None, ("settling s", "-")),
        ("dies", 200, ("dies", "200")),
        ("trimmed", True, ("trimmed", "yes")),
        ("solver", "KLU", ("solver", "KLU")),
        ("range_error", float("nan"), ("range error", "nan")),
    ],
)
def test_figures(name: str, value: object, expected: tuple[str, str]) -> None:
    assert format_figure(name, value) == expected


def test_limits() -> None:
    assert format_limit(None, "s") == "-"
    assert format_limit({"min": 99.0}, "%") == ">= 99 %"
    assert format_limit({"min": None, "max": 1e-6}, "s") == "<= 1 us"
