"""Commands on finished sign-offs: simulate a recorded sample again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analog_deq.command import (
    COUNT,
    INDEX,
    executor_option,
    finish_record,
    given,
    jobs_option,
    memory_option,
    options,
    runs_option,
    timeout_option,
)
from analog_deq.errors import EXIT_PASS, EXIT_SIGNOFF_FAILED

if TYPE_CHECKING:
    from analog_deq.pipeline.replay_signoff import Replayed

_REPORT = click.Path(exists=True, path_type=Path)
_TABLE = ".parquet"


@click.command()
@click.argument("source", metavar="REPORT|TABLE", type=_REPORT)
@click.option("--row", "rows", type=INDEX, multiple=True, help="Row of samples.csv or TABLE, from 0. May be repeated.")
@click.option("--check", metavar="ID", help="The sample that decided this check of the report.")
@click.option("--image", type=INDEX, help="Test image, counted from 0: on the nominal circuit, or on --die.")
@click.option("--die", type=INDEX, help="Mismatch die, counted from 0; without --image all its samples.")
@click.option("--trim/--no-trim", "trimmed", default=None, help="The die with its trim, or without.  [default: both]")
@click.option("--random", "count", type=COUNT, metavar="N", help="N rows drawn by --seed.")
@click.option("--seed", type=INDEX, default=0, show_default=True, help="Draws the rows of --random.")
@click.option("--cell", metavar="CELL", help="The cell that a TABLE was measured on.")
@options(jobs_option, executor_option, timeout_option, memory_option, runs_option)
@click.pass_context
def replay(
    ctx: click.Context,
    source: Path,
    rows: tuple[int, ...],
    executor: str | None,
    timeout_s: float | None,
    runs: Path,
    cell: str | None,
    **asked: Any,
) -> None:
    """Simulate recorded samples again and compare all printed digits.

    REPORT is the folder that verify wrote, or its report.json. It holds all that is needed. Nothing is taken from
    earlier runs: each sample is simulated anew, in the sweep of its die, since ngspice walks from image to image. TABLE
    is a quantities.parquet of characterise. Exit code 1 when a digit differs.

    \b
    Example
      analog-deq replay signoff/ --row 17
      analog-deq replay signoff/ --check net.fixed_point_max
      analog-deq replay signoff/ --die 3 --image 12 --trim
      analog-deq replay signoff/ --random 20 --json
      analog-deq replay quantities.parquet --cell opamp_2stage --row 17
    """
    if source.suffix == _TABLE:
        _replay_quantity(ctx, source, cell, rows, timeout_s, runs)
    if cell is not None:
        raise click.UsageError("--cell belongs to a quantities.parquet; a sign-off has its own cells")
    from analog_deq import signoff_console
    from analog_deq.pipeline.replay_signoff import replay_rows, signoff_folder
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor

    folder = signoff_folder(source)
    simulation = {name: asked.pop(name) for name in ("jobs", "memory_bytes")}
    chosen = _rows(folder, rows, **asked)
    with drawn_progress() as progress, open_executor(executor) as pool:
        found = replay_rows(
            folder, chosen, executor=pool, progress=progress, **given(timeout_s=timeout_s), **simulation
        )
    code = EXIT_PASS if found.same else EXIT_SIGNOFF_FAILED
    finish_record(ctx, _record(found), lambda screen: signoff_console.render_replayed(screen, found), exit_code=code)


def _rows(
    folder: Path,
    rows: tuple[int, ...],
    check: str | None,
    image: int | None,
    die: int | None,
    trimmed: bool | None,
    count: int | None,
    seed: int,
) -> tuple[int, ...]:
    """Numbers of the rows asked for; UsageError unless they are asked for in exactly one way."""
    from analog_deq.pipeline.replay_signoff import random_rows, rows_of, rows_of_check

    place = image is not None or die is not None
    ways = {"--row": bool(rows), "--check": check is not None, "--image or --die": place, "--random": count is not None}
    if sum(ways.values()) != 1:
        given_ways = " and ".join(name for name, is_given in ways.items() if is_given) or "none of them"
        raise click.UsageError(f"say which samples by one of {', '.join(ways)}; {given_ways} is given")
    if trimmed is not None and not place:
        raise click.UsageError("--trim belongs to --die; add that, or leave it out")
    if rows:
        return rows
    if check is not None:
        return rows_of_check(folder, check)
    if count is not None:
        return random_rows(folder, count, seed)
    return rows_of(folder, die=die, image=image, trimmed=trimmed)


def _record(found: Replayed) -> dict[str, object]:
    return {
        "report": found.folder / "report.json", "same": found.same, "recorded_by": found.recorded_by,
        "replayed_by": found.replayed_by, "rows": [
            {"row": row.row, **row.place, "recorded": row.recorded, "replayed": row.replayed, "same": row.same}
            for row in found.rows
        ],
    }  # fmt: skip


def _replay_quantity(
    ctx: click.Context, table: Path, cell: str | None, rows: tuple[int, ...], timeout_s: float | None, runs: Path
) -> None:
    if cell is None or len(rows) != 1:
        raise click.UsageError(f"{table} is a table of one cell: give it with --cell, and one --row")
    from analog_deq import cell_console
    from analog_deq.pipeline.replay import replay as replay_quantity

    found = replay_quantity(cell, table, rows[0], runs=runs, **given(timeout_s=timeout_s))
    code = EXIT_PASS if found["same"] else EXIT_SIGNOFF_FAILED
    finish_record(ctx, found, lambda screen: cell_console.render_record(screen, found), exit_code=code)


SIGNOFF_COMMANDS = (replay,)
