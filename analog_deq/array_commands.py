"""The command on a crossbar given as files: its column currents, and its flat deck."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analog_deq.command import ANY_PATH, FILE, finish_record, options

if TYPE_CHECKING:
    from rich.console import Console

    from analog_deq.pipeline.crossbar import CrossbarRead

_OHM = click.FloatRange(min=0)


def _ohm(name: str, text: str) -> Any:
    return click.option(name, type=_OHM, default=0.0, show_default=True, metavar="OHM", help=text)


@click.command()
@click.option("--resistances", type=FILE, required=True, help="CSV: a line a word line, a value a bit line, in ohm.")
@click.option(
    "--inputs",
    type=FILE,
    required=True,
    help="CSV: a line an input vector, a value a word line, in volts; or one vector as a column.",
)
@_ohm("--r-word", "One segment of word line: before the first cell and between cells.")
@_ohm("--r-bit", "One segment of bit line: between cells and after the last.")
@_ohm("--r-source", "Between each row's source and its word line.")
@_ohm("--r-sense", "Between each bit line and its virtual ground.")
@_ohm("--r-selector", "In series with each cell.")
@click.option("--both-word-ends", is_flag=True, help="The source drives a word line's far end too.")
@click.option("--both-bit-ends", is_flag=True, help="A bit line's top is grounded too.")
@click.option(
    "--sinh", "sinh_v", type=click.FloatRange(min=0, min_open=True), metavar="VOLTS",
    help="Cells carry G V0 sinh(V / V0) for this V0.",
)  # fmt: skip
@click.option("--deck", type=ANY_PATH, help="Write the flat deck here; ngspice -b prints the same currents.")
@options()
@click.pass_context
def crossbar(ctx: click.Context, resistances: Path, inputs: Path, **asked: Any) -> None:
    """Compute the column currents of a resistive crossbar, wires included, exactly.

    A word line runs from its source through --r-word to the first cell; a bit line ends through --r-bit at a virtual
    ground. Resistances may be 0 (a short) and inf (an open cell). Currents are amperes out of the bit lines.

    \b
    Example
      analog-deq crossbar --resistances R.csv --inputs V.csv --r-word 1 --r-bit 1 --json
      analog-deq crossbar --resistances R.csv --inputs V.csv --r-word 1 --r-bit 1 --deck array.cir
    """
    from analog_deq.pipeline.crossbar import read_crossbar

    renamed = {f"{name}_ohm" if name.startswith("r_") else name: value for name, value in asked.items()}
    read = read_crossbar(resistances, inputs, **renamed)
    wiring = {name: value for name, value in renamed.items() if name != "deck"}
    finish_record(ctx, read.record(wiring), lambda screen: _render(screen, read))


def _render(screen: Console, read: CrossbarRead) -> None:
    """One line an input: its column currents in amperes."""
    for k, currents in enumerate(read.currents):
        screen.print(f"input {k}:", " ".join(f"{current:.9g}" for current in currents), "A", soft_wrap=True)
    if read.deck is not None:
        screen.print(f"flat deck: {read.deck}", soft_wrap=True)


ARRAY_COMMANDS = (crossbar,)
