"""What a person reads when stages have finished: key figures, files, and the verdict table. No decisions here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from analog_deq.units import engineering

if TYPE_CHECKING:
    from analog_deq.pipeline import StageResult
    from analog_deq.spice.doctor import Diagnosis

WIDTH_WITHOUT_TERMINAL = 132
WIDTH_FOR_INTERVALS = 105
VERDICTS = {0: "pass", 1: "fail", 4: "inconclusive"}
_STYLES = {
    "pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "not_measured": "bold red",
    "not_modelled": "bold yellow",
}  # fmt: skip
_UNIT_OF_SUFFIX = {
    "_v_per_rthz": "V/rtHz", "_siemens": "S", "_celsius": "degC", "_percent": "%", "_ohm": "ohm", "_hz": "Hz",
    "_s": "s", "_v": "V", "_w": "W", "_j": "J", "_a": "A", "_f": "F",
}  # fmt: skip


def make_console(*, stderr: bool) -> Console:
    """Console on stdout or stderr; off a terminal it is wide enough for the tables."""
    stream: TextIO = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


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
    """Prints the verdict of a verify stage: a line a check, then in words each missed one and where it was worst.

    The sentences of the other checks stand in the report.
    """
    wide = console.width >= WIDTH_FOR_INTERVALS
    table = Table(
        title="verdict", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        padding=(0, 1) if wide else (0, 0), show_edge=wide,
    )  # fmt: skip
    table.add_column("id", no_wrap=True)
    for name in ("value", "limit", "n", *(("interval or worst corner",) if wide else ())):
        table.add_column(name, justify="right")
    table.add_column("status", no_wrap=True)
    for check in result.checks:
        unit = str(check.get("unit") or "")
        interval = " .. ".join(format_value(end, unit) for end in check.get("interval") or ()) or "-"
        if corner := check.get("worst_corner"):
            interval = f"{format_value(check['by_corner'][corner], unit)} at {corner}"
        cells = [str(check["id"]), format_value(check.get("value"), unit), format_limit(check.get("limit"), unit)]
        cells += [format_value(check.get("n")), *((interval,) if wide else ())]
        table.add_row(*(escape(cell) for cell in cells), _status(check))
    console.print(table)
    missed = [check for check in result.checks if check["status"] not in {"pass", "info"}]
    for check in missed:
        told = {key: value for key, value in (check.get("worst") or {}).items() if value not in (None, "")}
        worst = ", ".join(f"{key} {value}" for key, value in told.items())
        reasons = [
            check.get("quantity"),
            check.get("detail"),
            worst and f"worst at {worst}",
            check.get("waived") and f"waived: {check['waived']}",
        ]
        text = "; ".join(str(reason) for reason in reasons if reason)
        console.print(f"{check['id']}: {text or check['status']}", markup=False, soft_wrap=True)
        if check.get("replay"):
            console.print(f"  replay: {check['replay']}", markup=False, soft_wrap=True)
    verdict = VERDICTS.get(result.exit_code, f"error (exit {result.exit_code})")
    counts = f"{len(result.checks)} checks, {len(missed)} not passed"
    console.print(Text.assemble("verdict: ", (verdict.upper(), _STYLES.get(verdict, "bold red")), f"  ({counts})"))
    for path in result.outputs.values():
        if path.suffix == ".html":
            console.print(f"report:  {path}", markup=False, soft_wrap=True)


def _status(check: Mapping[str, Any]) -> Text:
    """Coloured status; a row that cannot hold back the verdict says so."""
    status = str(check["status"])
    text = Text(status.replace("_", " "), style=_STYLES.get(status, ""))
    if check.get("waived"):
        text.append(" (waived)")
    elif check.get("severity") == "warn":
        text.append(" (warn)")
    return text


def render_diagnosis(console: Console, found: Diagnosis) -> None:
    """Prints the versions found, the checked RC run, and every problem with its mend."""
    solver = {True: "KLU and Sparse", False: "Sparse only, slower on large decks", None: "unknown"}[found.klu]
    lines = {"python": found.python, **found.packages}
    lines["ngspice"] = f"{found.ngspice_version} ({found.ngspice_path})" if found.ngspice_path else "not found"
    if found.ngspice_path:
        lines["solver"] = solver
    if found.rc_measured_s is not None:
        times = engineering(found.rc_measured_s, "s"), engineering(found.rc_expected_s, "s")
        error = "" if found.rc_error is None else f", error {found.rc_error:.2%}"
        lines["RC run"] = f"settles in {times[0]}, expected {times[1]}{error}"
    width = max(len(name) for name in lines)
    for name, text in lines.items():
        console.print(f"{name:<{width}}  {text}", markup=False, soft_wrap=True)
    for problem in found.problems:
        console.print(f"[bold red]problem:[/bold red] {escape(problem)}", soft_wrap=True)
    console.print("[bold green]ready[/bold green]" if found.ok else "[bold red]not ready[/bold red]")


def _flat(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
