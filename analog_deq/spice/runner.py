"""Running one deck: ngspice as a short-lived process in a folder of its own, then every check, then the plots.

``run_deck`` always simulates. ``run_cached`` keeps finished runs under the hash of everything that decides them and
believes a kept one only after checking it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import ResourceLimitError, SimulationError, SimulationTimeoutError
from analog_deq.netlists.deck import SENTINEL
from analog_deq.provenance import file_sha256
from analog_deq.records import Deck, Plot
from analog_deq.runs import INPUTS_FILE, OUTPUTS_FILE, publish, scratch_folder
from analog_deq.spice.checks import check_deck, check_log, check_plots, log_tail, saved_vectors
from analog_deq.spice.process import CancelledError, Children, Limits, run_child
from analog_deq.spice.rawfile import read_plots
from analog_deq.spice.simulator import Simulator

_ARGUMENTS = ("-b", "-r", "out.raw", "deck.cir")
_NO_MEMORY = re.compile(
    r"can't allocate|malloc: internal error|not enough memory|out of memory|failed to map segment|bad_alloc",
    re.IGNORECASE,
)
_KLU = re.compile(r"^\s*\.options?\b[^\n]*\bklu\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SimulationRun:
    """A run that passed every check. ``stepping``: an operating point needed gmin or source stepping."""

    plots: tuple[Plot, ...]
    stepping: bool
    wall_s: float
    folder: Path
    reused: bool = False


def run_deck(
    deck: Deck,
    *,
    simulator: Simulator,
    folder: Path,
    timeout_s: float = 120.0,
    limits: Limits | None = None,
    children: Children | None = None,
) -> SimulationRun:
    """Plots of ``deck``, simulated in a new folder inside ``folder``, which is kept.

    Raises NetlistError for a deck ngspice could misread silently; SimulationTimeoutError after ``timeout_s``
    seconds; ResourceLimitError when ``limits`` stop it; ConvergenceError, MissingPlotError or SimulationError when a
    check fails, with the run folder and the last log lines.

    Example:
        >>> import tempfile
        >>> from analog_deq.netlists.deck import build_deck
        >>> from analog_deq.records import Op
        >>> from analog_deq.spice.simulator import find_simulator
        >>> deck = build_deck("divider", ["V1 a 0 1.0", "R1 a b 1e3", "R2 b 0 1e3"], [Op()], save=["v(b)"])
        >>> with tempfile.TemporaryDirectory() as name:
        ...     run_deck(deck, simulator=find_simulator(), folder=Path(name)).plots[0]["v(b)"].tolist()
        [0.5]
    """
    _require_solver(deck, simulator)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    return _simulate(deck, simulator, work, timeout_s, limits or Limits(), children)


def run_cached(
    deck: Deck,
    *,
    simulator: Simulator,
    root: Path,
    stage: str,
    timeout_s: float = 120.0,
    limits: Limits | None = None,
    children: Children | None = None,
) -> SimulationRun:
    """Plots of ``deck``, from its run folder when that is whole, else from a new simulation.

    The folder is ``root/stage/<12 hex>``, named by deck, ngspice version and solver. It is reused only when its deck
    is the same text, ``out.raw`` has the recorded hash, and log and plots pass the checks again; otherwise it is
    simulated again and replaced. A run that fails leaves ``<12 hex>.failed`` with deck and log, never reused, and
    raises as ``run_deck`` does. An interrupted one leaves nothing, and a killed one a hidden folder that
    ``runs.sweep`` removes. Limits do not name the folder: a run that ends within them does not depend on them.
    """
    _require_solver(deck, simulator)
    key = hashlib.sha256(f"{deck.sha256}\0{simulator.version}\0{simulator.solver}".encode()).hexdigest()[:12]
    final = root / stage / key
    kept = _reuse(deck, final)
    if kept is not None:
        return kept
    failed = final.with_name(f"{key}.failed")
    with scratch_folder(final) as work:
        try:
            run = _simulate(deck, simulator, work, timeout_s, limits or Limits(), children)
        except CancelledError:
            raise
        except SimulationError as error:
            publish(work, failed)
            raise type(error)(error.reason, folder=failed, log_tail=error.log_tail) from error
        _write_record(deck, simulator, work, run)
        publish(work, final)
    if failed.exists():
        shutil.rmtree(failed, ignore_errors=True)
    return SimulationRun(run.plots, run.stepping, run.wall_s, final)


def _simulate(
    deck: Deck, simulator: Simulator, work: Path, timeout_s: float, limits: Limits, children: Children | None
) -> SimulationRun:
    check_deck(deck)
    arguments = ["-n", *(word for name in deck.arguments for word in ("-D", name)), *_ARGUMENTS]
    for name, content in (("deck.cir", deck.text), *deck.files):
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    (work / "command.txt").write_text(
        "SPICE_SCRIPTS=$(mktemp -d) OMP_THREAD_LIMIT=1 OMP_NUM_THREADS=1 LC_ALL=C HOME=. "
        f"ngspice {' '.join(arguments)}\n"
    )
    log = work / "ngspice.log"
    with tempfile.TemporaryDirectory() as scripts:
        # Without -n and with the usual SPICE_SCRIPTS, a .spiceinit or spinit found there would run commands.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(work),
            "SPICE_SCRIPTS": scripts,
            # ngspice sets its own thread count (2, or what spinit says) over OMP_NUM_THREADS; two such processes on two
            # cores spin against each other and run 30 times slower. Only the thread limit binds.
            "OMP_THREAD_LIMIT": "1",
            "OMP_NUM_THREADS": "1",
            "LC_ALL": "C",
        }
        ended = run_child(
            [str(simulator.executable), *arguments],
            folder=work,
            environment=environment,
            log=log,
            timeout_s=timeout_s,
            limits=limits,
            children=children,
        )
    text = log.read_text(encoding="latin-1")
    tail = log_tail(text)
    if ended.timed_out:
        raise SimulationTimeoutError(f"killed after its limit of {timeout_s:g} s", folder=work, log_tail=tail)
    if _NO_MEMORY.search(text):
        reason = f"ngspice may not take more than {limits.memory_bytes / 2**20:.6g} MiB of memory and needs it"
        raise ResourceLimitError(reason, folder=work, log_tail=tail)
    if ended.returncode == -signal.SIGXFSZ:
        reason = f"ngspice may not write a file of more than {limits.file_bytes / 2**20:.6g} MiB and would"
        raise ResourceLimitError(reason, folder=work, log_tail=tail)
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise SimulationError(f"ngspice was killed by {name}", folder=work, log_tail=tail)
    stepping = _judge_log(deck, text, work)
    if ended.returncode != 0:
        raise SimulationError(f"ngspice ended with exit code {ended.returncode}", folder=work, log_tail=tail)
    return SimulationRun(_judge_plots(deck, work, tail), stepping, ended.wall_s, work)


def _judge_log(deck: Deck, text: str, folder: Path) -> bool:
    flags = check_log(text, folder=folder)
    if SENTINEL in deck.text and SENTINEL not in text.split():
        raise SimulationError("the deck did not run to its end mark", folder=folder, log_tail=log_tail(text))
    return flags.stepping


def _judge_plots(deck: Deck, folder: Path, tail: str) -> tuple[Plot, ...]:
    plots = read_plots(folder / "out.raw")
    check_plots(plots, deck.plots, deck.bound, saved=saved_vectors(deck.text), folder=folder, tail=tail)
    return plots


def _reuse(deck: Deck, final: Path) -> SimulationRun | None:
    try:
        record = json.loads((final / OUTPUTS_FILE).read_text())
        same = all((final / name).read_text() == content for name, content in (("deck.cir", deck.text), *deck.files))
        if not same or file_sha256(final / "out.raw") != record["files"]["out.raw"]:
            return None
        text = (final / "ngspice.log").read_text(encoding="latin-1")
        stepping = _judge_log(deck, text, final)
        return SimulationRun(_judge_plots(deck, final, ""), stepping, float(record["wall_s"]), final, reused=True)
    except (OSError, ValueError, KeyError, TypeError, SimulationError):
        return None  # not whole: simulating again is the check that decides


def _write_record(deck: Deck, simulator: Simulator, work: Path, run: SimulationRun) -> None:
    inputs = {
        "deck_sha256": deck.sha256,
        "ngspice_version": simulator.version,
        "solver": simulator.solver,
        "bound": deck.bound,
        "plots": [{"name": p.name, "points": p.points, "end": p.end} for p in deck.plots],
        "files": [name for name, _ in deck.files],
    }
    outputs = {
        "files": {"out.raw": file_sha256(work / "out.raw")},
        "stepping": run.stepping,
        "wall_s": run.wall_s,
        "plots": [{"name": p.name, "points": len(p.data), "variables": len(p.variables)} for p in run.plots],
    }
    for name, content in ((INPUTS_FILE, inputs), (OUTPUTS_FILE, outputs)):
        (work / name).write_text(json.dumps(content, indent=1) + "\n")


def _require_solver(deck: Deck, simulator: Simulator) -> None:
    if not simulator.klu and _KLU.search(deck.text):
        raise SimulationError(
            f"the deck asks for the KLU solver and ngspice {simulator.version} has none; leave the option out or "
            "install ngspice 44 or newer"
        )
