"""Many decks at once: threads that wait on ngspice processes, or the same pure function on any other executor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analog_deq.errors import (
    ConvergenceError,
    MissingPlotError,
    ResourceLimitError,
    SimulationError,
    SimulationTimeoutError,
)
from analog_deq.records import OK, Deck, Progress
from analog_deq.runs import sweep
from analog_deq.spice.process import Children, Limits
from analog_deq.spice.remote import marked_site, run_on_worker
from analog_deq.spice.runner import SimulationRun, run_cached
from analog_deq.spice.simulator import Simulator

_KINDS: tuple[tuple[type[SimulationError], str], ...] = (
    (ConvergenceError, "convergence"),
    (SimulationTimeoutError, "timeout"),
    (ResourceLimitError, "limit"),
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
    limits: Limits | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> list[Outcome]:
    """One outcome per deck, in input order; a simulation that fails is an outcome, never a missing entry.

    ``jobs`` processes run at once (default: the number of cores). Equal decks are simulated once. With
    ``executor``, the simulations are submitted there instead, and ``root`` must be a folder its workers share. What
    killed processes of this host left in the folder of ``stage`` is removed. Raises NetlistError when a deck is
    malformed, and ExecutorError when a worker differs from here or all are lost. Ctrl-C cancels what waits, kills the
    running simulators (on workers within about a second) and raises KeyboardInterrupt.
    """
    progress = progress or Progress()
    children = Children()
    pool = executor or ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1, thread_name_prefix="ngspice")
    keys = [deck.sha256 for deck in decks]
    copies = Counter(keys)
    futures: dict[Future[SimulationRun], str] = {}
    outcomes: dict[str, Outcome] = {}
    progress.start(stage, len(decks))
    try:
        with _simulation(executor, simulator, root, stage, children) as simulate:
            for key, deck in dict(zip(keys, decks, strict=True)).items():
                futures[pool.submit(simulate, deck, timeout_s=timeout_s, limits=limits)] = key
            for future in as_completed(futures):
                key = futures[future]
                outcomes[key] = outcome = _outcome(future)
                progress.advance(copies[key], failed=0 if outcome.status == OK else copies[key])
    except BaseException:
        for future in futures:
            future.cancel()
        children.kill_all()
        raise
    finally:
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)
        sweep(root / stage)
    return [outcomes[key] for key in keys]


@contextmanager
def _simulation(
    executor: Executor | None, simulator: Simulator, root: Path, stage: str, children: Children
) -> Iterator[Callable[..., SimulationRun]]:
    """``run_cached`` for this process, or its form for workers that share nothing with it but a folder."""
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        yield partial(run_cached, simulator=simulator, root=root, stage=stage, children=children)
        return
    root = root.absolute()
    with marked_site(root / stage, simulator) as site:
        yield partial(run_on_worker, site, root=root, stage=stage)


def _outcome(future: Future[SimulationRun]) -> Outcome:
    try:
        return Outcome(future.result(), OK)
    except SimulationError as error:
        kind = next(name for family, name in _KINDS if isinstance(error, family))
        return Outcome(None, f"{kind}: {error.reason}", error)
