"""What a person reads of a single cell: its draft, its check, its datasheet, and what a campaign would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from analog_deq.console import format_value

if TYPE_CHECKING:
    from pathlib import Path

    from analog_deq.characterise.check import CheckedCell
    from analog_deq.datasheet.sheet import Datasheet
    from analog_deq.netlists.draft import Draft
    from analog_deq.pipeline.characterise import CharacteriseResult
    from analog_deq.pipeline.forecast import Forecast


MOST_FAILURES = 20
_TITLES = {
    "quantity": "quantity", "at": "at", "low": "lowest", "high": "highest", "worst": "worst",
    "worst_corner": "worst corner", "sd": "sd over dies",
}  # fmt: skip
_OVER_CORNERS = {"low", "high", "worst", "worst_corner"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of the table of quantities; without ``at``, the condition stands below the quantity's name."""

    columns: tuple[str, ...]
    no_wrap: bool = True


_LAYOUTS = (
    _Layout(("quantity", "at", "typical", "low", "high", "worst_corner")),
    _Layout(("quantity", "typical", "low", "high", "worst_corner")),
    _Layout(("quantity", "typical", "worst", "worst_corner")),
    _Layout(("quantity", "typical", "worst", "worst_corner"), no_wrap=False),
)
"""The widest that fits is taken; the last one wraps."""


def render_record(console: Console, record: Mapping[str, object]) -> None:
    """Prints the entries of a record, one a line."""
    width = max(len(name) for name in record)
    for name, value in record.items():
        console.print(f"{name.replace('_', ' '):<{width}}  {_exact(value)}", markup=False, soft_wrap=True)


def _exact(value: object) -> str:
    return repr(value) if isinstance(value, float) else format_value(value)


def render_draft(console: Console, path: Path, draft: Draft) -> None:
    """Prints where a drafted contract lies and what is left to fill in."""
    console.print(f"wrote {path}  (role {draft.role})", markup=False, soft_wrap=True)
    if draft.open_points:
        console.print("look at:", markup=False)
        for point in draft.open_points:
            console.print(f"  {point}", markup=False)
    console.print(f"then: analog-deq check {path}", markup=False, soft_wrap=True)


def render_checked(console: Console, found: CheckedCell) -> None:
    """Prints what a cell is, the corners ngspice instantiated it at, and every finding."""
    contract = found.cell.contract
    lines = {
        "cell": f"{found.cell.name} ({found.cell.role})",
        "pins": ", ".join(f"{role} = {pin}" for role, pin in contract.pins.items()),
        "tied": ", ".join(contract.tie) or "none",
        "parameters": ", ".join(contract.params) or "none",
        "mismatch": ", ".join([contract.mismatch.mode, *contract.mismatch.params]),
        "instantiated at": f"{', '.join(found.corners)} ({found.seconds:.2f} s in ngspice)",
    }
    width = max(len(name) for name in lines)
    for name, text in lines.items():
        console.print(f"{name:<{width}}  {text}", markup=False, soft_wrap=True)
    for finding in found.findings:
        style = "bold yellow" if finding.severity == "warning" else "bold"
        mend = f"; {finding.mend}" if finding.mend else ""
        console.print(
            Text.assemble((f"{finding.severity}: ", style), f"{finding.place}: {finding.text}{mend}"), soft_wrap=True
        )
    console.print("[bold green]ok[/bold green]: the cell can be characterised and used in a design")


def render_forecast(console: Console, cost: Forecast) -> None:
    """Prints what a campaign would simulate, and the dies each yield claim needs."""
    table = Table(
        title=f"{cost.cell}: nothing simulated", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("measurement")
    for name in ("copies", "decks", "analyses", "time"):
        table.add_column(name, justify="right")
    for row in (
        *cost.rows,
        {"measurement": "all", "copies": "", "decks": cost.decks, "analyses": cost.analyses, "seconds": cost.seconds},
    ):
        table.add_row(
            *(str(row[key]) for key in ("measurement", "copies", "decks", "analyses")),
            format_value(row["seconds"], "s"),
        )
    console.print(table)
    console.print(f"corners: {', '.join(cost.corners)}", markup=False, soft_wrap=True)
    claims = ", ".join(f"{float(claim):.5g}: {n}" for claim, n in cost.dies_needed.items())
    console.print(
        f"dies asked for: {cost.dies}; dies without a failure that a yield claim needs (95 % confidence): {claims}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def render_datasheet(console: Console, result: CharacteriseResult) -> None:
    """Prints the table of quantities, what has no value and why, every failed simulation, counts, and the files."""
    from analog_deq.datasheet.html import (
        quantity_lines,
    )  # draws with matplotlib, which the other commands can do without

    sheet, lines = result.datasheet, quantity_lines(result.datasheet)
    measured = [line for line in lines if line["measured"]]
    tables = [_quantities(sheet, measured, layout) for layout in _LAYOUTS]
    unlimited = console.options.update(max_width=10_000)
    fitting = [table for table in tables if Measurement.get(console, unlimited, table).maximum <= console.width]
    console.print((fitting or tables[-1:])[0] if measured else f"{sheet.cell.name}: nothing could be measured")
    _render_without_value(console, lines)
    for failure in sheet.failures.head(MOST_FAILURES).to_dict("records"):
        die = f" {failure['die']}" if failure["die"] >= 0 else ""
        where = f"{failure['measurement']} at {failure['corner']}, {failure['variant']}{die}"
        deck = f"; deck {result.spice / failure['deck'] / 'deck.cir'}" if failure["deck"] else ""
        text = f"{where}: {failure['status']}{deck}; row {failure['row']} of the table"
        console.print(Text.assemble(("failed: ", "bold red"), text), soft_wrap=True)
    if len(sheet.failures) > MOST_FAILURES:
        console.print(f"and {len(sheet.failures) - MOST_FAILURES} more failed; see the status column of the table")
    if (sheet.failures["corner"] == sheet.corners[0]).any():
        console.print(f"`analog-deq check {sheet.call}` names the line and the mend", markup=False, soft_wrap=True)
    took = "reused, finished earlier" if result.reused else f"{result.seconds:.1f} s"
    counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.summary.items())
    console.print(f"{len(sheet.corners)} corners, {sheet.die_count} dies; {counts}; {took}", markup=False)
    for name, path in result.outputs.items():
        console.print(f"{name}: {path}", markup=False, soft_wrap=True)


def _quantities(sheet: Datasheet, lines: list[dict[str, Any]], layout: _Layout) -> Table:
    corner = f"typical {sheet.corners[0]}" if sheet.first == "typical" else f"at {sheet.first}"
    title = f"{sheet.cell.name} ({sheet.cell.role}), {corner}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    columns = [column for column in layout.columns if column not in _OVER_CORNERS or len(sheet.corners) > 1]
    columns += ["sd"] if sheet.die_count else []
    for column in columns:
        justify: Any = "left" if column in {"quantity", "at", "worst_corner"} else "right"
        heading = sheet.first if column == "typical" else _TITLES[column]
        table.add_column(heading, justify=justify, vertical="bottom", no_wrap=layout.no_wrap, overflow="fold")
    above = ""
    for line in lines:
        name = "" if line["quantity"] == above else line["quantity"]
        folded = [part for part in (name, f"  {line['at']}" if line["at"] else "") if part]
        cells = {**line, "quantity": line["quantity"] if "at" in columns else "\n".join(folded)}
        cells["typical"] = line["typical"].split(":")[0]  # why it has none is told below the table
        table.add_row(*(escape(cells[column]) for column in columns))
        above = line["quantity"]
    return table


def _render_without_value(console: Console, lines: list[dict[str, Any]]) -> None:
    """One line for each reason, with the quantities it holds for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line["kind"] != "pass":
            where = f" at {line['at']}" if line["at"] else ""
            reasons.setdefault((line["kind"], line["typical"]), []).append(f"{line['quantity']}{where}")
        elif line["missed"]:
            reasons.setdefault(("fail", f"no value at {line['missed']}"), []).append(line["quantity"])
    for (kind, reason), names in reasons.items():
        style = {"info": "bold", "inconclusive": "bold yellow"}.get(kind, "bold red")
        listed = ", ".join(dict.fromkeys(names))
        console.print(Text.assemble(f"{listed}: ", (reason, style)))
