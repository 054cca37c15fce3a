"""Command line: parse, one library call, render, exit code. ``command.py`` holds what the commands share.

Heavy imports (torch, pandas, rich) happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analog_deq import __version__
from analog_deq.array_commands import ARRAY_COMMANDS
from analog_deq.cell_commands import CELL_COMMANDS
from analog_deq.command import (
    ANY_PATH,
    COUNT,
    FILE,
    INDEX,
    PROGRAM,
    RATE,
    CommandGroup,
    cells_option,
    design_option,
    dies_option,
    executor_option,
    find_input,
    finish,
    finish_diagnosis,
    finish_record,
    flat_option,
    given,
    jobs_option,
    limits_option,
    memory_option,
    options,
    out_option,
    refuse_given,
    runs_option,
    timeout_option,
)
from analog_deq.errors import EXIT_INCONCLUSIVE, EXIT_PASS
from analog_deq.signoff_commands import SIGNOFF_COMMANDS

if TYPE_CHECKING:
    from analog_deq.pipeline import StageResult

DESIGNS, PLANS, LIMITS = "data/designs", "calibration/plans", "data/limits"
FINE_TUNING = (
    "steps", "batch", "learning_rate", "linearize", "die", "cells", "flat", "jobs", "executor", "timeout_s",
    "memory_bytes",
)  # fmt: skip
"""Options of ``train`` that only its measured forward pass has."""


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Co-design of deep equilibrium models and the analog circuits that settle to them.

    The stages calibrate, fit, train and verify meet through files; run does all four.

    \b
    Example: everything, on the shipped design for 8x8 digits
      analog-deq run digits --limits default

    \b
    Exit codes
      0    pass
      1    sign-off failed
      2    wrong use, or a file with an error in it
      3    ngspice or another tool is missing or failed
      4    inconclusive: too few samples for the claim
      130  interrupted; the same command resumes
    """


for command in (*CELL_COMMANDS, *ARRAY_COMMANDS):
    cli.add_command(command)


@cli.command()
@click.argument("source", metavar="PLAN|DESIGN")
@options(cells_option, jobs_option, executor_option, timeout_option, memory_option, runs_option, out_option)
@click.pass_context
def calibrate(ctx: click.Context, source: str, executor: str | None, timeout_s: float | None, **rest: Any) -> None:
    """Measure the cells of a design in ngspice and write calibration tables.

    PLAN|DESIGN is a calibration plan or a design file, or the name of a shipped one.

    \b
    Example
      analog-deq calibrate digits
      analog-deq calibrate my_plan.toml --cell opamp=my_opamp.toml --jobs 4
      analog-deq calibrate digits --executor dask://10.0.0.5:8786 --runs /shared/runs
    """
    from analog_deq import pipeline
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor

    path = find_input(source, DESIGNS, PLANS)
    with drawn_progress() as progress, open_executor(executor) as pool:
        result = pipeline.calibrate(path, progress=progress, executor=pool, **given(timeout_s=timeout_s), **rest)
    finish(ctx, [result])


@cli.command()
@click.argument("tables", required=False, type=click.Path(exists=True, path_type=Path))
@options(design_option, runs_option, out_option)
@click.pass_context
def fit(ctx: click.Context, tables: Path | None, design: str, **rest: Any) -> None:
    """Fit calibration tables to the proxy's parameters and write proxy.json.

    TABLES is what calibrate wrote. Without it the reference tables shipped for the design's cells are used, which
    needs no ngspice.

    \b
    Example
      analog-deq fit tables/ --design digits --out proxy.json
      analog-deq fit --design digits
    """
    from analog_deq import pipeline
    from analog_deq.progress import drawn_progress

    path = find_input(design, DESIGNS)
    with drawn_progress() as progress:
        result = pipeline.fit(tables, design=path, progress=progress, **rest)
    finish(ctx, [result])


@cli.command()
@click.argument("design")
@click.option("--proxy", required=True, type=FILE, help="The proxy.json that fit wrote.")
@click.option("--baselines/--no-baselines", default=True, show_default=True, help="Also train what to compare with.")
@click.option(
    "--forward", type=click.Choice(["proxy", "spice"]), default="proxy", show_default=True,
    help="Where the states come from that the loss sees. The options below belong to spice.",
)  # fmt: skip
@click.option("--from", "start", type=FILE, metavar="NET", help="The net.safetensors to fine-tune, which spice needs.")
@click.option("--steps", type=COUNT, help="Steps of fine-tuning.  [default: 60]")
@click.option("--batch", type=COUNT, help="Training samples simulated a step.  [default: 64]")
@click.option("--learning-rate", type=RATE, help="Step size of Adam.  [default: 0.003]")
@click.option(
    "--linearize", type=click.Choice(["solved", "measured"]),
    help="Where the proxy's Jacobian is taken: at its own state, or at the measured one.  [default: solved]",
)  # fmt: skip
@click.option("--die", type=INDEX, help="Simulate this mismatch die, with its trim, instead of the nominal circuit.")
@click.option(
    "--proxy-of", metavar="DESIGN",
    help="Design that --proxy and --from belong to, when the simulated hardware differs from it on purpose.",
)  # fmt: skip
@options(
    cells_option, flat_option, jobs_option, executor_option, timeout_option, memory_option, runs_option, out_option
)
@click.pass_context
def train(
    ctx: click.Context,
    design: str,
    proxy: Path,
    baselines: bool,
    forward: str,
    runs: Path,
    out: Path | None,
    **rest: Any,
) -> None:
    """Train the network of a design through its proxy and write net.safetensors.

    With --forward spice a trained network is fine-tuned on states that ngspice measures for each batch, the gradient
    still the proxy's. finetune.csv, beside the network, holds each step's loss and how far the circuit is from the
    proxy, and says when to calibrate and fit again. After Ctrl-C the same command goes on from the last step.

    \b
    Example
      analog-deq train digits --proxy proxy.json --out net.safetensors
      analog-deq train digits --proxy proxy.json --forward spice --from net.safetensors --out tuned.safetensors
      analog-deq train digits --proxy proxy.json --forward spice --from net.safetensors \\
          --cell opamp=aged.toml --proxy-of digits --die 3
    """
    from analog_deq import pipeline
    from analog_deq.progress import drawn_progress

    path = find_input(design, DESIGNS)
    if forward == "proxy":
        refuse_given(ctx, "--forward spice", names=("start", "proxy_of", *FINE_TUNING))
        with drawn_progress() as progress:
            result = pipeline.train(path, proxy=proxy, runs=runs, out=out, baselines=baselines, progress=progress)
    else:
        refuse_given(ctx, "--forward proxy", names=("baselines",))
        result = _fine_tune(path, proxy=proxy, runs=runs, out=out, **rest)
    finish(ctx, [result])


def _fine_tune(
    design: Path, *, start: Path | None, executor: str | None, timeout_s: float | None, proxy_of: str | None,
    steps: int | None, batch: int | None, learning_rate: float | None, linearize: str | None, **rest: Any,
) -> StageResult:  # fmt: skip
    """``train --forward spice``: the result of its library call."""
    if start is None:
        raise click.UsageError("--forward spice fine-tunes a trained network; give it with --from net.safetensors")
    from analog_deq import pipeline
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor
    from analog_deq.train.finetune import FineTuning

    settings = FineTuning(
        **given(steps=steps, batch=batch, learning_rate=learning_rate, linearize=linearize)
    )  # fmt: skip
    home = find_input(proxy_of, DESIGNS) if proxy_of else None
    with drawn_progress() as progress, open_executor(executor) as pool:
        return pipeline.fine_tune_in_spice(
            design, start=start, settings=settings, proxy_of=home, executor=pool, progress=progress,
            **given(timeout_s=timeout_s), **rest,
        )  # fmt: skip


@cli.command()
@click.argument("checkpoint", type=FILE)
@click.option("--proxy", required=True, type=FILE, help="The proxy.json the checkpoint was trained through.")
@click.option("--dry-run", is_flag=True, help="Simulate nothing: show simulations, time, and the n each claim needs.")
@options(
    design_option, limits_option, cells_option, flat_option, dies_option, jobs_option, executor_option, timeout_option,
    memory_option, runs_option, out_option,
)  # fmt: skip
@click.pass_context
def verify(
    ctx: click.Context,
    checkpoint: Path,
    design: str,
    limits: str | None,
    executor: str | None,
    timeout_s: float | None,
    dry_run: bool,
    **rest: Any,
) -> None:
    """Simulate the whole trained network in ngspice and judge it by limits.

    CHECKPOINT is the net.safetensors that train wrote. The exit code is the verdict. With --dry-run it is 0, and 4
    where a claim needs more samples than the run would take.

    \b
    Example
      analog-deq verify net.safetensors --design digits --proxy proxy.json --limits default
      analog-deq verify net.safetensors --design digits --proxy proxy.json --dies 2218 --dry-run
    """
    from analog_deq import pipeline
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor

    path, judged_by = find_input(design, DESIGNS), find_input(limits, LIMITS) if limits else None
    if dry_run:
        from analog_deq import signoff_console
        from analog_deq.pipeline.forecast_signoff import forecast_signoff

        asked = {name: rest[name] for name in ("proxy", "jobs", "cells", "flat", "dies")}
        cost = forecast_signoff(checkpoint, design=path, limits=judged_by, **asked)
        record, code = cost.record(), EXIT_PASS if cost.enough else EXIT_INCONCLUSIVE
        finish_record(ctx, record, lambda screen: signoff_console.render_forecast(screen, cost), exit_code=code)
    with drawn_progress() as progress, open_executor(executor) as pool:
        result = pipeline.verify(
            checkpoint, design=path, limits=judged_by, progress=progress, executor=pool, **given(timeout_s=timeout_s),
            **rest,
        )  # fmt: skip
    finish(ctx, [result])


@cli.command()
@click.argument("design")
@options(
    limits_option, cells_option, flat_option, dies_option, jobs_option, executor_option, memory_option, runs_option
)
@click.pass_context
def run(ctx: click.Context, design: str, limits: str | None, executor: str | None, **rest: Any) -> None:
    """Run calibrate, fit, train and verify; finished stages are reused.

    DESIGN is a design file or the name of a shipped one. After Ctrl-C the same command resumes. The exit code is the
    verdict.

    \b
    Example
      analog-deq run digits --limits default
      analog-deq run my_design.toml --limits my_limits.toml --json > result.json
    """
    from analog_deq import pipeline
    from analog_deq.progress import drawn_progress
    from analog_deq.spice.executors import open_executor

    path = find_input(design, DESIGNS)
    judged_by = find_input(limits, LIMITS) if limits else None
    with drawn_progress() as progress, open_executor(executor) as pool:
        results = pipeline.run(path, limits=judged_by, progress=progress, executor=pool, **rest)
    finish(ctx, results)


for command in SIGNOFF_COMMANDS:
    cli.add_command(command)


@cli.command()
@click.argument("kind", type=click.Choice(["cell", "crossbar", "network"]))
@click.option("--out", required=True, type=ANY_PATH, help="Deck to write; the cells it includes go beside it.")
@click.option("--checkpoint", type=FILE, help="Trained network, for the kinds network and crossbar.")
@click.option("--proxy", type=FILE, help="The proxy.json the checkpoint was trained through.")
@click.option("--cell", metavar="ROLE", help="Which cell of the design, for the kind cell.")
@click.option("--flat", is_flag=True, help="Every wire segment, instead of the array reduced to its ports.")
@click.option("--image", type=INDEX, help="Test image at the inputs, counted from 0.")
@click.option("--die", type=INDEX, help="Mismatch die, counted from 0; without it the nominal circuit.")
@click.option("--trims", type=FILE, help="trims.csv of a verify run: the die with its trim currents.")
@click.option(
    "--analysis", type=click.Choice(["transient", "equilibrium", "noise"]), default="transient", show_default=True,
    help="What the network's deck runs; a die has no transient.",
)  # fmt: skip
@options(design_option)
@click.pass_context
def netlist(ctx: click.Context, kind: str, design: str, **rest: Any) -> None:
    """Write a deck a circuit designer can open and run: a cell, a crossbar, or the network.

    \b
    Example
      analog-deq netlist cell --design digits --cell opamp --out opamp_tb.cir
      analog-deq netlist network --design digits --checkpoint net.safetensors --proxy proxy.json \\
          --image 3 --out net.cir
    """
    from analog_deq import pipeline

    result = pipeline.write_netlist(kind, design=find_input(design, DESIGNS), **rest)
    finish(ctx, [result])


@cli.command()
@options()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Show versions, find ngspice, and check a small RC run.

    The RC run's answer is known; a wrong one is a problem, as is a missing ngspice. Which linear solver ngspice has
    (KLU, or the slower Sparse) is shown with its version. Exit code 3 when something is missing.

    \b
    Example
      analog-deq doctor
      analog-deq doctor --json
    """
    from analog_deq.spice.doctor import diagnose

    finish_diagnosis(ctx, diagnose())


def main() -> None:
    """Entry point of the command ``analog-deq``."""
    cli(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
