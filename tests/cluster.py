"""A Dask cluster of real processes on the loopback interface, and a look at who runs in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def living_in(folder: Path) -> list[int]:
    """Processes whose working directory lies below ``folder``: simulators at work."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder) and b"State:\tZ" not in (
                    entry / "status"
                ).read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # ended meanwhile, or somebody else's
    return found


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@dataclass
class Cluster:
    """One scheduler and its workers, each a process with one thread and no nanny."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        """One worker more, which the scheduler knows when this returns."""
        arguments = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder / "dask"))
        self.workers.append(_start("worker", self.folder, {}, f"tcp{self.address[4:]}", *arguments))
        log = self.folder / "worker.log"
        wait_until(lambda: log.read_text().count("Registered to") == len(self.workers))


def _start(kind: str, folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / f"{kind}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *arguments],
            cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


@contextmanager
def cluster(folder: Path, workers: int = 2, **environment: str) -> Iterator[Cluster]:
    """A cluster in ``folder``; keywords are environment variables of its scheduler."""
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "scheduler.json"
    place = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(told))
    started = Cluster(folder, _start("scheduler", folder, environment, *place), "")
    try:
        wait_until(lambda: (told.is_file() and told.read_text().endswith("}")) or started.scheduler.poll() is not None)
        started.address = f"dask{json.loads(told.read_text())['address'][3:]}"
        for _ in range(workers):
            started.start_worker()
        yield started
    finally:
        for process in (*started.workers, started.scheduler):
            process.kill()
            process.wait()
