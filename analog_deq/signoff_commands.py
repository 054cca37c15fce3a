"""Commands on finished sign-offs: simulate a recorded sample again, compare two, keep one as a baseline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analog_deq.command import (
    COUNT,
    INDEX,
    CommandGroup,
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
_TABLE, _DECK = ".parquet", "replay.json"
_baselines_option = click.option(
    "--baselines", type=click.Path(file_okay=False, path_type=Path), default="baselines", show_default=True,
    help="Folder of the baselines.",
)  # fmt: skip


@click.command()
@click.argument("source", metavar="REPORT|TABLE", type=_REPORT)
@click.option("--row", "rows", type=INDEX, multiple=True, help="Row of samples.csv or TABLE, from 0. May be repeated.")
@click.option("--check", metavar="ID", help="The sample that decided this check of the report.")
@click.option("--image", type=INDEX, help="Test image, counted from 0: on the nominal circuit, or on --die.")
@click.option("--die", type=INDEX, help="Mismatch die, counted from 0; without --image all its samples.")
@click.option("--trim/--no-trim", "trimmed", default=None, help="The die with its trim, or without.  [default: both]")
@click.option("--corner", metavar="NAME", help="Rows of corners.csv at this corner, in place of samples.csv.")
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

    REPORT is the folder that verify wrote, its report.json, or a folder of its decks/. It holds all that is needed.
    Nothing is taken from earlier runs: a row of samples.csv is simulated anew in the sweep of its die, since ngspice
    walks from image to image; a deck of decks/ by itself. TABLE is a quantities.parquet of characterise. Exit code 1
    when a digit differs.

    \b
    Example
      analog-deq replay signoff/ --row 17
      analog-deq replay signoff/ --check net.fixed_point_max
      analog-deq replay signoff/decks/transient-image3
      analog-deq replay signoff/ --die 3 --image 12 --trim
      analog-deq replay signoff/ --corner ss_m40C_1p62V --image 12
      analog-deq replay signoff/ --random 20 --json
      analog-deq replay quantities.parquet --cell opamp_2stage --row 17
    """
    if source.suffix == _TABLE:
        _replay_quantity(ctx, source, cell, rows, timeout_s, runs)
    if cell is not None:
        raise click.UsageError("--cell belongs to a quantities.parquet; a sign-off has its own cells")
    from analog_deq import signoff_console
    from analog_deq.pipeline.finished import CORNERS, SAMPLES, signoff_folder
    from analog_deq.pipeline.replay_signoff import replay_samples
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor

    simulation = {name: asked.pop(name) for name in ("jobs", "memory_bytes")}
    alone = (source / _DECK).is_file()
    folder = signoff_folder(source.resolve().parent.parent if alone else source)
    chosen, decks = ((), (source.resolve().name,)) if alone else _samples(folder, rows, **asked)
    if alone and (rows or any(value is not None for name, value in asked.items() if name != "seed")):
        raise click.UsageError(f"{source} is one deck; give the sign-off's folder to choose samples")
    table = CORNERS if asked["corner"] else SAMPLES
    with drawn_progress() as progress, open_executor(executor) as pool:
        found = replay_samples(
            folder,
            chosen,
            decks,
            table=table,
            executor=pool,
            progress=progress,
            **given(timeout_s=timeout_s),
            **simulation,
        )
    code = EXIT_PASS if found.same else EXIT_SIGNOFF_FAILED
    finish_record(ctx, _record(found), lambda screen: signoff_console.render_replayed(screen, found), exit_code=code)


def _samples(
    folder: Path,
    rows: tuple[int, ...],
    check: str | None,
    image: int | None,
    die: int | None,
    trimmed: bool | None,
    corner: str | None,
    count: int | None,
    seed: int,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Rows and decks asked for; UsageError unless they are asked for in exactly one way."""
    from analog_deq.pipeline.replay_signoff import random_rows, rows_of, sample_of_check

    place = image is not None or die is not None
    ways = {"--row": bool(rows), "--check": check is not None, "--image or --die": place, "--random": count is not None}
    if sum(ways.values()) != 1:
        given_ways = " and ".join(name for name, is_given in ways.items() if is_given) or "none of them"
        raise click.UsageError(f"say which samples by one of {', '.join(ways)}; {given_ways} is given")
    if corner is not None and not (place or rows):
        raise click.UsageError("--corner needs --image, --die or --row of corners.csv")
    if trimmed is not None and not place:
        raise click.UsageError("--trim belongs to --die; add that, or leave it out")
    if check is not None:
        of_check, deck = sample_of_check(folder, check)
        return of_check, () if deck is None else (deck,)
    if count is not None:
        return random_rows(folder, count, seed), ()
    return rows or rows_of(folder, die=die, image=image, trimmed=trimmed, corner=corner), ()


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


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False)
@click.option("--baseline", metavar="NAME", help="Hold A against this baseline, in place of B: it is the one before.")
@click.option("--corner", "corners", multiple=True, metavar="NAME", help="Two corners of A alone; give it twice.")
@click.option("--all", "everything", is_flag=True, help="Show rows that are equal too.")
@options(_baselines_option, runs_option)
@click.pass_context
def compare(
    ctx: click.Context,
    before: str,
    after: str | None,
    baseline: str | None,
    corners: tuple[str, ...],
    everything: bool,
    baselines: Path,
    runs: Path,
) -> None:
    """Compare two sign-offs, two characterised cells, or two corners of one: the change of every check.

    A (before) and B (after) are sign-off folders or their report.json; or cells: a quantities.parquet, a folder with
    one, or the name of a cell characterised in --runs. A change is worse when it goes toward a limit, and
    apart when the two confidence intervals do not overlap. Samples that both sign-offs simulated are compared one by
    one. Exit code 1 when a check that decides got worse in status: pass to inconclusive or fail, or no longer judged.

    \b
    Example
      analog-deq compare runs/verify/1a2b3c4d5e6f runs/verify/6f5e4d3c2b1a
      analog-deq compare signoff/ --baseline tapeout-1
      analog-deq compare signoff/ --corner tt_27C_1p8V --corner ss_m40C_1p62V
      analog-deq compare opamp_2stage my_opamp.toml
    """
    from analog_deq import signoff_console
    from analog_deq.pipeline.baselines import read_baseline
    from analog_deq.pipeline.compare import compare as compare_two
    from analog_deq.pipeline.compare import compare_two_corners, comparison_record

    ways = {"B": after is not None, "--baseline": baseline is not None, "--corner": bool(corners)}
    if sum(ways.values()) != 1 or len(corners) not in {0, 2}:
        raise click.UsageError("compare A with one of: B, --baseline NAME, or two of its --corner NAME")
    if corners:
        found = compare_two_corners(before, corners[0], corners[1], runs)
    elif baseline is not None:
        found = compare_two(read_baseline(baseline, baselines).folder, before, runs)
    else:
        assert after is not None, "one of the three ways is given"
        found = compare_two(before, after, runs)
    code = EXIT_SIGNOFF_FAILED if found.regressed else EXIT_PASS
    finish_record(
        ctx, comparison_record(found),
        lambda screen: signoff_console.render_comparison(screen, found, everything=everything), exit_code=code,
    )  # fmt: skip


@click.group(cls=CommandGroup)
def baseline() -> None:
    """Keep a sign-off under a name, and list those kept.

    \b
    Example
      analog-deq baseline save tapeout-1 signoff/
      analog-deq compare signoff/ --baseline tapeout-1
    """


@baseline.command()
@click.argument("name")
@click.argument("run", metavar="RUN", type=_REPORT)
@click.option("--replace", is_flag=True, help="Take the place of a baseline of that name.")
@options(_baselines_option)
@click.pass_context
def save(ctx: click.Context, name: str, run: Path, replace: bool, baselines: Path) -> None:
    """Keep the report and samples of a sign-off as a baseline.

    RUN is the folder that verify wrote, or its report.json. The baseline is a folder of its own, with the hashes of its
    files; commit it beside the design.

    \b
    Example
      analog-deq baseline save tapeout-1 signoff/
    """
    from analog_deq import signoff_console
    from analog_deq.pipeline.baselines import save_baseline

    kept = save_baseline(name, run, baselines, replace=replace)
    finish_record(
        ctx, dataclasses.asdict(kept), lambda screen: signoff_console.render_baselines(screen, [kept])
    )  # fmt: skip


@baseline.command("list")
@options(_baselines_option)
@click.pass_context
def list_(ctx: click.Context, baselines: Path) -> None:
    """Show the baselines there are.

    \b
    Example
      analog-deq baseline list --json
    """
    from analog_deq import signoff_console
    from analog_deq.pipeline.baselines import list_baselines

    found = list_baselines(baselines)
    record = {"baselines": [dataclasses.asdict(kept) for kept in found]}
    finish_record(ctx, record, lambda screen: signoff_console.render_baselines(screen, found))


SIGNOFF_COMMANDS = (replay, compare, baseline)
