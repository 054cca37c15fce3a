"""Many decks at once: threads that wait on ngspice processes, or the same pure function on any other executor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import ConvergenceError, MissingPlotError, SimulationError, SimulationTimeoutError
from analog_deq.records import OK, Deck, Progress
from analog_deq.spice.process import Children
from analog_deq.spice.runner import SimulationRun, run_cached
from analog_deq.spice.simulator import Simulator

_KINDS: tuple[tuple[type[SimulationError], str], ...] = (
    (ConvergenceError, "convergence"),
    (SimulationTimeoutError, "timeout"),
    (MissingPlotError, "missing plot"),
    (SimulationError, "simulation"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one deck. ``status`` is ``ok`` or ``kind: reason``; ``run`` is None unless it is ``ok``."""

    run: SimulationRun | None
    status: str
    error: SimulationError | None = None


def simulate_all(
    decks: Sequence[Deck],
    *,
    simulator: Simulator,
    root: Path,
    stage: str,
    jobs: int | None = None,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> list[Outcome]:
    """One outcome per deck, in input order; a simulation that fails is an outcome, never a missing entry.

    ``jobs`` processes run at once (default: the number of cores). Equal decks are simulated once. With
    ``executor``, ``run_cached`` is submitted there instead and ``root`` must be a path its workers share. Raises
    NetlistError when a deck is malformed. Ctrl-C cancels what waits, kills the running simulators (on a foreign
    executor they end by their own time limit) and raises KeyboardInterrupt.
    """
    progress = progress or Progress()
    children = Children()
    local = executor is None or isinstance(executor, ThreadPoolExecutor)
    pool = executor or ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1, thread_name_prefix="ngspice")
    futures: dict[str, Future[SimulationRun]] = {}
    keys = [deck.sha256 for deck in decks]
    progress.start(stage, len(decks))
    try:
        for key, deck in zip(keys, decks, strict=True):
            if key not in futures:
                options = {"children": children} if local else {}  # locks do not travel to another machine
                futures[key] = pool.submit(
                    run_cached, deck, simulator=simulator, root=root, stage=stage, timeout_s=timeout_s, **options
                )
        outcomes: dict[str, Outcome] = {}
        names = {id(future): key for key, future in futures.items()}
        for future in as_completed(futures.values()):
            key = names[id(future)]
            outcomes[key] = outcome = _outcome(future)
            copies = keys.count(key)
            progress.advance(copies, failed=0 if outcome.status == OK else copies)
    except BaseException:
        for future in futures.values():
            future.cancel()
        children.kill_all()
        raise
    finally:
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)
    return [outcomes[key] for key in keys]


def _outcome(future: Future[SimulationRun]) -> Outcome:
    try:
        return Outcome(future.result(), OK)
    except SimulationError as error:
        kind = next(name for family, name in _KINDS if isinstance(error, family))
        return Outcome(None, f"{kind}: {error.reason}", error)
