"""What every command shares: exit codes, JSON, input files by name, and the options.

Stdout carries the result, stderr the talk; with ``--json`` stdout is one JSON object and nothing else. Every
exit code is decided in ``CommandGroup.invoke`` and ``finish``. Only click is imported at the top.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import numbers
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from analog_deq import __version__
from analog_deq.errors import EXIT_INTERRUPTED, EXIT_PASS, EXIT_SIMULATOR, EXIT_USAGE, AnalogDeqError, SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from analog_deq.pipeline import StageResult
    from analog_deq.spice.doctor import Diagnosis

PROGRAM = "analog-deq"
JSON_SCHEMA = "analog_deq.command/1"
_WANTS_JSON = "analog_deq.json"
_UNUSABLE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)

# ------------------------------------------------------------------ exit codes and output, in one place


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error that ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted; run the same command again to resume, finished work is reused"
    if isinstance(error, AnalogDeqError):
        return error.exit_code, str(error)
    if isinstance(error, _UNUSABLE_FILE):
        return EXIT_USAGE, f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return EXIT_SIMULATOR, (
            f"{error.filename or 'the runs folder'}: no space left; free some, or name another disk with --runs and "
            "--out; the same command resumes"
        )
    if isinstance(error, OSError):
        return EXIT_SIMULATOR, f"the system refused: {error}"
    if isinstance(error, ModuleNotFoundError):
        return EXIT_SIMULATOR, f"the Python package {error.name!r} is missing; run `make setup` or install it with pip"
    trace = "".join(traceback.format_exception(error))
    return EXIT_SIMULATOR, f"{trace}this is a bug in {PROGRAM} {__version__}; please report it with the lines above"


class CommandGroup(click.Group):
    """A group whose commands end with the package's exit codes, whatever went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the flow, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own: usage errors (2), --help, a closed stdout
        except (Exception, KeyboardInterrupt) as error:
            code, message = explain(error)
            click.echo(f"{'Interrupted' if code == EXIT_INTERRUPTED else 'Error'}: {message}", err=True)
            if ctx.meta.get(_WANTS_JSON):
                print_json(ctx, code, error={"type": type(error).__name__, "message": message})
            ctx.exit(code)


def finish(ctx: click.Context, results: Sequence[StageResult]) -> None:
    """Renders finished stages and ends the command with the last exit code that is not 0."""
    from analog_deq import console

    as_json = bool(ctx.meta.get(_WANTS_JSON))
    code = next((result.exit_code for result in reversed(results) if result.exit_code), EXIT_PASS)
    judged = [result for result in results if result.checks]
    if as_json:
        verdict = {"verdict": console.VERDICTS.get(code)} if judged else {}
        print_json(ctx, code, **verdict, stages=[dataclasses.asdict(result) for result in results])
    else:
        screen = console.make_console(stderr=False)
        console.render_stages(screen, results)
        for result in judged:
            console.render_verdict(screen, result)
    ctx.exit(code)


def finish_record(
    ctx: click.Context, record: Mapping[str, object], render: Callable[[Console], None], exit_code: int = EXIT_PASS
) -> None:
    """Prints ``record`` as JSON where that was asked for, else lets ``render`` print it, and ends the command."""
    if ctx.meta.get(_WANTS_JSON):
        print_json(ctx, exit_code, **record)
    else:
        from analog_deq import console

        render(console.make_console(stderr=False))
    ctx.exit(exit_code)


def finish_diagnosis(ctx: click.Context, diagnosis: Diagnosis) -> None:
    """Renders what doctor found and ends with 0, or with 3 when something is missing."""
    code = EXIT_PASS if diagnosis.ok else EXIT_SIMULATOR
    if ctx.meta.get(_WANTS_JSON):
        print_json(ctx, code, **dataclasses.asdict(diagnosis))
    else:
        from analog_deq import console

        console.render_diagnosis(console.make_console(stderr=False), diagnosis)
    ctx.exit(code)


def print_json(ctx: click.Context, code: int, **content: object) -> None:
    name = _command_name(ctx) or ctx.invoked_subcommand
    payload = {"schema": JSON_SCHEMA, "command": name, "exit_code": code, **content}
    click.echo(json.dumps(_jsonable(payload), indent=2, allow_nan=False))


def _command_name(ctx: click.Context) -> str:
    """Such as ``baseline save``: the commands below the program, whatever it was started as."""
    if ctx.parent is None:
        return ""
    return f"{_command_name(ctx.parent)} {ctx.info_name}".strip()


def _jsonable(value: Any) -> Any:
    """Plain JSON types; a number that is not finite becomes null, as JSON has none."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return _jsonable(value.tolist())  # numpy and torch arrays and scalars; anything else is a bug and says so


# ------------------------------------------------------------------ arguments and shared options


def find_input(text: str, *folders: str) -> Path:
    """The file ``text`` names: an existing path, or the name of a file shipped in one of ``folders``.

    Raises:
        SpecError: neither; the message lists the shipped names.
    """
    path = Path(text)
    if path.is_file():
        return path
    from analog_deq.resources import shipped

    known = {file.stem: file for folder in reversed(folders) for file in sorted(Path(shipped(folder)).glob("*.toml"))}
    if text in known:
        return known[text]
    what = "is a folder, not a file" if path.is_dir() else "no such file"
    names = ", ".join(sorted(known)) or "none"
    raise SpecError(f"{text}: {what}, and not a shipped name; give a .toml file or one of: {names}")


def _parse_cells(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for text in values:
        role, sign, cell = text.partition("=")
        if not (role and sign and cell):
            raise click.BadParameter(f"{text!r} is not role=cell, such as opamp=my_opamp.toml", ctx, param)
        if role in cells:
            raise click.BadParameter(f"the role {role!r} is given twice", ctx, param)
        cells[role] = cell
    return cells


def _parse_timeout(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value} is not a positive number of seconds", ctx, param)
    return value


def _parse_memory(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = _MEMORY.fullmatch(value.strip())
    size = int(float(match["number"]) * 1024 ** " KMGT".index(match["unit"].upper())) if match else 0
    if not size:
        raise click.BadParameter(
            f"{value!r} is not a size; write a number above 0 and K, M, G or T (powers of 1024 bytes), such as 2G",
            ctx,
            param,
        )
    return size


def _remember_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_WANTS_JSON] = value


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)
_MEMORY = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT])(i?B)?", re.IGNORECASE)
COUNT = click.IntRange(min=1)
INDEX = click.IntRange(min=0)
RATE = click.FloatRange(min=0, min_open=True, max=1)

_json = click.option(
    "--json", is_flag=True, is_eager=True, expose_value=False, callback=_remember_json,
    help="Print one JSON object on stdout and nothing else there.",
)  # fmt: skip
design_option = click.option(
    "--design", required=True, metavar="DESIGN", help="Design file, or the name of a shipped one."
)
limits_option = click.option(
    "--limits", metavar="LIMITS", help="Limits file, or the name of a shipped one; decides the verdict."
)
out_option = click.option("--out", type=ANY_PATH, help="Also put the outputs here.")
runs_option = click.option(
    "--runs", type=_FOLDER, default="runs", show_default=True, help="Folder of finished runs, reused and resumed."
)
jobs_option = click.option("--jobs", type=COUNT, help="ngspice processes at a time.  [default: one a core]")
executor_option = click.option(
    "--executor", metavar="local|dask://HOST:PORT",
    help="Where ngspice runs: here, or on the workers of a running Dask cluster, with as many processes at a time as "
    "they have threads. --runs must be a folder they share.  [default: local]",
)  # fmt: skip
memory_option = click.option(
    "--memory-limit", "memory_bytes", metavar="SIZE", callback=_parse_memory,
    help="Memory one ngspice process may take, such as 512M or 2G; one that needs more is a failed simulation.  "
    "[default: 8G]",
)  # fmt: skip
cells_option = click.option(
    "--cell", "cells", multiple=True, metavar="ROLE=CELL", callback=_parse_cells,
    help="Use another cell in a role: a shipped name or the path of your cell.toml. May be repeated.",
)  # fmt: skip
timeout_option = click.option(
    "--timeout", "timeout_s", type=float, callback=_parse_timeout, help="Seconds one ngspice process may take."
)
flat_option = click.option(
    "--flat", is_flag=True, help="Simulate every image on the flat deck, wires unreduced (slow)."
)
dies_option = click.option("--dies", type=COUNT, help="Mismatch dies to simulate, instead of the design's number.")


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several option decorators as one; --help shows them in this order, then --json."""

    def apply(function: Any) -> Any:
        for decorator in reversed((*decorators, _json)):
            function = decorator(function)
        return function

    return apply


def refuse_given(ctx: click.Context, belongs_to: str, *, names: Sequence[str]) -> None:
    """UsageError when a person set one of the parameters ``names``; says which option it ``belongs_to``."""
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[0]} belongs to {belongs_to}; add that, or leave it out")


def given(**options: Any) -> dict[str, Any]:
    """The options a person set; the others keep the library's default."""
    return {name: value for name, value in options.items() if value is not None}
