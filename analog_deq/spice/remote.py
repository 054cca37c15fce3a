"""A simulation on a worker that may be another machine: the same ``run_cached``, once the worker was found to be fit.

A worker with another version of the package would judge by other rules, one with another ngspice would keep its
results under a false name, and one that sees another disk would keep them where nobody looks. Each is refused.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from analog_deq.errors import ExecutorError, SimulatorNotFoundError
from analog_deq.provenance import file_sha256, package_version
from analog_deq.records import Deck
from analog_deq.runs import hash_inputs, scratch_folder
from analog_deq.spice.process import Children, Limits
from analog_deq.spice.runner import SimulationRun, run_cached
from analog_deq.spice.simulator import Simulator, find_simulator

_WATCH_S = 0.5


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker must share with the process that asks it: source, ngspice, and a folder only that one made."""

    source_sha256: str
    simulator: Simulator
    mark: Path


@contextmanager
def marked_site(folder: Path, simulator: Simulator) -> Iterator[Site]:
    """The site of this process. Its mark lies in ``folder`` (absolute) until the block ends: then all is called off."""
    with scratch_folder(folder / "shared") as mark:
        yield Site(_source_sha256(), simulator, mark)
        mark.rmdir()


def run_on_worker(
    site: Site, deck: Deck, *, root: Path, stage: str, timeout_s: float, limits: Limits | None
) -> SimulationRun:
    """``run_cached`` of ``deck``, on whichever worker this runs. Raises ExecutorError when the worker is not fit."""
    return run_cached(
        deck, simulator=site.simulator, root=root, stage=stage, timeout_s=timeout_s, limits=limits,
        children=_children_for(site),
    )  # fmt: skip


@cache
def _children_for(site: Site) -> Children:
    """The simulators that run here for ``site``; they are killed when its mark is gone."""
    require_fit(site)
    children = Children()

    def watch() -> None:
        while not children.cancelled:
            time.sleep(_WATCH_S)
            with suppress(OSError):  # a file system that does not answer has not said that the mark is gone
                if not site.mark.exists():
                    children.kill_all()

    threading.Thread(target=watch, name="ngspice-mark", daemon=True).start()
    return children


@cache
def _source_sha256() -> str:
    """Hash of the files beside this one, which run and judge a simulation."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hash_inputs({path.name: file_sha256(path) for path in files})


def require_fit(site: Site) -> None:
    """Nothing, when this process may work for ``site``. ExecutorError otherwise, naming the worker and the mend."""
    worker = f"worker {socket.gethostname()} (process {os.getpid()})"
    if _source_sha256() != site.source_sha256:
        raise ExecutorError(
            f"{worker} runs other source files of analog-deq (its version is {package_version()}); install the same "
            "version there and restart the worker"
        )
    if not site.mark.exists():
        raise ExecutorError(
            f"{worker} does not see the run folder {site.mark.parent} of this machine; give --runs a folder that all "
            "workers mount under the same path"
        )
    wanted = site.simulator
    try:
        found = find_simulator(str(wanted.executable))
    except SimulatorNotFoundError as error:
        raise ExecutorError(f"{worker}: {error}") from error
    if found != wanted:
        raise ExecutorError(
            f"{worker}: {wanted.executable} is ngspice {found.version} ({found.solver}) there and {wanted.version} "
            f"({wanted.solver}) here; install the same version"
        )
