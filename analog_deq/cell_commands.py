"""Commands on single cells: draft a contract, check it, characterise it, make an op-amp card."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analog_deq.command import (
    ANY_PATH,
    FILE,
    executor_option,
    finish_record,
    given,
    jobs_option,
    memory_option,
    options,
    out_option,
    runs_option,
    timeout_option,
)
from analog_deq.errors import SpecError

if TYPE_CHECKING:
    from analog_deq.netlists.boyle_design import BoyleParameters

_cell_argument = click.argument("cell", metavar="CELL")
_corners_option = click.option(
    "--corners", default="quick", show_default=True, metavar="typ|quick|full|NAMES",
    help="Process x temperature x supply: the typical corner; it and the worst five of the last full run (else slow "
    "and fast, hot and cold); all; or names such as ss_m40C_1p62V, separated by commas.",
)  # fmt: skip
_seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the dies."
)
_measure_option = click.option(
    "--measure", "measurements", multiple=True, metavar="NAME", help="Only this measurement. May be repeated."
)


@click.command("init-cell")
@click.argument("netlist", type=FILE)
@click.option("--role", metavar="ROLE", help="Role of the cell, when its pin names do not tell.")
@click.option("--subckt", metavar="NAME", help="Which .subckt of the file is the cell.")
@options(out_option)
@click.pass_context
def init_cell(ctx: click.Context, netlist: Path, role: str | None, subckt: str | None, out: Path | None) -> None:
    """Write a first cell.toml for a netlist.

    Pins are matched by their usual names. What cannot be guessed is left as a comment to fill in; check then says what
    is missing. The file goes beside the netlist, and an existing one is never overwritten.

    \b
    Example
      analog-deq init-cell my_opamp.cir
      analog-deq init-cell vendor.sub --role opamp --subckt LM324
    """
    from analog_deq import cell_console
    from analog_deq.netlists.draft import draft_contract, write_draft

    draft = draft_contract(netlist, role, subckt)
    path = write_draft(draft, netlist, out or netlist.with_suffix(".toml"))
    record = {"contract": str(path), "role": draft.role, "open_points": list(draft.open_points)}
    finish_record(ctx, record, lambda screen: cell_console.render_draft(screen, path, draft))


@click.command()
@_cell_argument
@options()
@click.pass_context
def check(ctx: click.Context, cell: str) -> None:
    """Check a cell: contract, netlist, and whether ngspice can instantiate it at every process corner.

    CELL is the path of a cell.toml or the name of a shipped cell. Exit code 2, with file, line, cause and the likely
    mend, when something is wrong.

    \b
    Example
      analog-deq check my_opamp.toml
    """
    from analog_deq import cell_console
    from analog_deq.characterise.check import check_cell
    from analog_deq.netlists.library import load_cell
    from analog_deq.spice.simulator import find_simulator

    found = check_cell(load_cell(cell), simulator=find_simulator())
    record = {
        "cell": found.cell.name, "role": found.cell.role, "pins": found.cell.contract.pins,
        "parameters": sorted(found.cell.contract.params), "corners": list(found.corners), "seconds": found.seconds,
        "findings": [dataclasses.asdict(finding) for finding in found.findings], "sha256": found.cell.sha256,
    }  # fmt: skip
    finish_record(ctx, record, lambda screen: cell_console.render_checked(screen, found))


@click.command()
@_cell_argument
@click.option("--dies", type=click.IntRange(min=0), default=0, show_default=True, help="Mismatch dies to simulate.")
@click.option("--die", type=click.IntRange(min=0), help="Only this die, by its number.")
@click.option("--sensitivity/--no-sensitivity", default=True, show_default=True, help="Move each parameter by a step.")
@click.option("--dry-run", is_flag=True, help="Simulate nothing: show decks, runs, time and dies needed for a claim.")
@options(
    _corners_option, _measure_option, _seed_option, jobs_option, executor_option, timeout_option, memory_option,
    runs_option, out_option,
)  # fmt: skip
@click.pass_context
def characterise(
    ctx: click.Context,
    cell: str,
    dry_run: bool,
    jobs: int | None,
    executor: str | None,
    timeout_s: float | None,
    runs: Path,
    out: Path | None,
    memory_bytes: int | None,
    **asked: Any,
) -> None:
    """Measure the datasheet of a cell over corners and dies, in ngspice.

    CELL is the path of a cell.toml or the name of a shipped cell. Dies are simulated at the first corner asked for.
    With --dry-run and --out, the decks are written there.

    \b
    Example
      analog-deq characterise opamp_2stage --corners full --dies 200
      analog-deq characterise my_opamp.toml --corners ss_m40C_1p62V --measure step_response
      analog-deq characterise opamp_2stage --corners full --dies 300 --dry-run
    """
    from analog_deq import cell_console
    from analog_deq.pipeline.characterise import characterise_cell
    from analog_deq.pipeline.forecast import forecast
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor

    if dry_run:
        cost = forecast(cell, runs=runs, jobs=jobs or os.cpu_count() or 1, out=out, **asked)
        finish_record(ctx, dataclasses.asdict(cost), lambda screen: cell_console.render_forecast(screen, cost))
        return
    with drawn_progress() as progress, open_executor(executor) as pool:
        result = characterise_cell(
            cell, runs=runs, out=out, jobs=jobs, executor=pool, memory_bytes=memory_bytes, progress=progress,
            **given(timeout_s=timeout_s), **asked,
        )  # fmt: skip
    finish_record(
        ctx, result.record(), lambda screen: cell_console.render_datasheet(screen, result), exit_code=result.exit_code
    )


@click.command()
@click.argument("folder", type=ANY_PATH)
@click.option("--name", default="my_opamp", show_default=True, help="Name of the cell and of its two files.")
@click.option(
    "--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="Such as gbw_hz=10e6. May be repeated."
)
@options()
@click.pass_context
def boyle(ctx: click.Context, folder: Path, name: str, settings: tuple[str, ...]) -> None:
    """Write an op-amp macromodel of the Boyle type from datasheet figures.

    The card knows its own answer: GBW = GA / (2 pi C2) and slew rate = tail current / C2. Without --set it is the
    shipped opamp_boyle.

    \b
    Example
      analog-deq boyle cells/ --name lm324ish --set gbw_hz=1.2e6 --set slew_v_per_s=0.5e6
    """
    from analog_deq import cell_console
    from analog_deq.netlists.boyle import write_boyle

    path = write_boyle(_boyle_parameters(settings, name), folder)
    record: dict[str, object] = {"contract": str(path), "netlist": str(path.with_suffix(".cir"))}
    finish_record(ctx, record, lambda screen: cell_console.render_record(screen, record))


def _boyle_parameters(settings: tuple[str, ...], name: str) -> BoyleParameters:
    from analog_deq.netlists.boyle_design import BoyleParameters
    from analog_deq.units import parse_spice_number

    known = [field.name for field in dataclasses.fields(BoyleParameters) if field.name != "name"]
    values: dict[str, Any] = {}
    for text in settings:
        key, _, value = text.partition("=")
        if key not in known:
            raise SpecError(f"--set {text}: no parameter {key!r}; write PARAMETER=VALUE with one of {', '.join(known)}")
        values[key] = parse_spice_number(value, f"--set {text}")
    return BoyleParameters(name=name, **values)


CELL_COMMANDS = (init_cell, check, characterise, boyle)
