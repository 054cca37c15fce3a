"""One child process: limits, a time limit that kills the whole group, and a way to end all of them at once."""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from analog_deq.errors import SimulationError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one simulation may use: size of a file it writes and address space, both in bytes.

    ngspice itself takes about 25 MB of address space before it reads a deck.
    """

    file_bytes: int = 4 * 2**30
    memory_bytes: int = 8 * 2**30


def limits_of(memory_bytes: int | None) -> Limits:
    """The limits with another one of memory, if it is given."""
    return Limits() if memory_bytes is None else Limits(memory_bytes=memory_bytes)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: exit code (negative: signal number), seconds of wall time, whether we ended it for time."""

    returncode: int
    wall_s: float
    timed_out: bool


class CancelledError(SimulationError):
    """The simulation was called off (Ctrl-C elsewhere) before it finished."""


class Children:
    """The process groups alive now; ``kill_all`` ends them and lets no new one start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: set[subprocess.Popen[bytes]] = set()
        self.cancelled = False

    def add(self, child: subprocess.Popen[bytes]) -> None:
        """``child`` is alive; it is killed at once when everything was called off meanwhile."""
        with self._lock:
            self._alive.add(child)
            if self.cancelled:
                kill_group(child)

    def discard(self, child: subprocess.Popen[bytes]) -> None:
        """``child`` was reaped."""
        with self._lock:
            self._alive.discard(child)

    def kill_all(self) -> None:
        """Every child alive is killed, and every later one as soon as it starts."""
        with self._lock:
            self.cancelled = True
            for child in self._alive:
                kill_group(child)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Nothing is left of the child's process group. A child that already ended is no error."""
    if child.returncode is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _allowed(kind: int, wanted: int) -> int:
    """``wanted``, or what the administrator allows where that is less: a limit cannot be raised again."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


@cache
def _death_signal() -> tuple[str, ...]:
    """Command that makes the one after it die with the thread that started it; empty where there is none.

    The thread is the right one: it waits in :func:`run_child` for as long as the child lives.
    """
    command = (shutil.which("setpriv") or "", "--pdeathsig", "KILL", "--")
    try:
        tried = subprocess.run([*command, "/bin/sh", "-c", ":"], capture_output=True, timeout=30, check=False)
    except OSError:
        return ()
    return command if tried.returncode == 0 else ()


def run_child(
    command: Sequence[str],
    *,
    folder: Path,
    environment: dict[str, str],
    log: Path,
    timeout_s: float,
    limits: Limits,
    children: Children | None = None,
) -> Ended:
    """How ``command`` ended in ``folder``, its output and errors together in ``log``.

    The child leads its own process group and has no standard input. KeyboardInterrupt kills the group before it
    propagates; where ``setpriv`` is installed (Linux) the child also dies with this process, however that ends, and
    elsewhere it outlives it by ``timeout_s`` seconds of processor time at most. Raises CancelledError when
    ``children`` was told to kill everything.
    """
    children = children or Children()
    # The shell sets the limits and then becomes the command. A preexec function would do the same in a forked copy
    # of a multi-threaded Python, which can deadlock. A parent that died before the death signal was asked for cannot
    # send it: then the shell has another parent by now.
    limit = f'[ "$PPID" = {os.getpid()} ] && ulimit -c 0'
    limit += f" && ulimit -t {_allowed(resource.RLIMIT_CPU, math.ceil(timeout_s) + 10)}"
    limit += f" && ulimit -f {_allowed(resource.RLIMIT_FSIZE, limits.file_bytes) // 512}"
    limit += f" && ulimit -v {_allowed(resource.RLIMIT_AS, limits.memory_bytes) // 1024}"
    expired = threading.Event()
    started = time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*_death_signal(), "/bin/sh", "-c", limit + ' && exec "$0" "$@"', *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def expire() -> None:
            expired.set()
            kill_group(child)

        # A timer and a plain wait return the moment the child ends; Popen.wait(timeout) polls in steps up to 50 ms,
        # which is ten times what a small simulation takes.
        timer = threading.Timer(timeout_s, expire)
        timer.daemon = True
        try:
            children.add(child)
            timer.start()
            returncode = child.wait()
        except BaseException:
            kill_group(child)
            child.wait()
            raise
        finally:
            timer.cancel()
            children.discard(child)
    if children.cancelled:
        raise CancelledError("called off before it finished", folder=folder)
    return Ended(returncode, time.perf_counter() - started, expired.is_set())
