"""Where simulations run: threads of this process, or the workers of a running Dask cluster, behind one interface."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pkgutil import resolve_name
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from analog_deq.errors import ExecutorError, SimulationError, SpecError

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as RemoteFuture

CONNECT_TIMEOUT_S = 8.0
"""How long a scheduler may take to answer."""
NO_WORKERS_TIMEOUT_S = 30.0
"""How long a cluster may be without any worker before what waits there is given up."""
_WATCH_S = 1.0
_RESUME = "run the same command again: finished simulations are reused"
_ADDRESS = re.compile(r"dask://(?P<host>[^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})/?")

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def open_executor(text: str | None) -> Iterator[Executor | None]:
    """The executor that ``text`` names, for as long as the block lasts; None stands for threads of this process.

    ``text`` is None or ``local``, or ``dask://HOST:PORT``: the scheduler of a running ``dask.distributed`` cluster.
    Its scheduler and workers need the same analog-deq and ngspice as this machine, and the run folder under the same
    path. A task whose worker dies is done again by another one; what the scheduler gives up (by default after four
    dead workers) is a failed simulation, and a cluster without any worker for 30 s is an ExecutorError.

    Raises SpecError for any other text, and ExecutorError when Dask is not installed or the scheduler does not answer.

    >>> with open_executor("slurm://here") as executor:
    ...     pass
    Traceback (most recent call last):
        ...
    analog_deq.errors.SpecError: --executor 'slurm://here': not an executor; use local, or dask://HOST:PORT ...
    """
    if text is None or text == "local":
        yield None
        return
    address = _parse(text)
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"--executor {text}: the Python package {error.name!r} is missing; pip install 'analog-deq[dask]'"
        ) from error
    with _silenced("distributed"):
        if not _is_scheduler(address):
            raise ExecutorError(
                f"--executor {text}: no Dask scheduler answers there within {CONNECT_TIMEOUT_S:g} s; start one with "
                "`dask scheduler` and its workers with `dask worker`"
            )
        client = Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
        try:
            _require_package(client)
            yield DaskExecutor(client)
        finally:
            client.close(timeout=CONNECT_TIMEOUT_S)


class DaskExecutor(Executor):
    """A ``distributed.Client`` as an executor of ``concurrent.futures``.

    Dask's own one gives no error when every worker is lost and asks the scheduler about each cancelled future in turn.
    A future raises SimulationError when the scheduler gave its task up because worker after worker died on it, and
    ExecutorError when the connection or all workers are lost.
    """

    def __init__(self, client: Client, no_workers_timeout_s: float = NO_WORKERS_TIMEOUT_S) -> None:
        self._client = client
        self._no_workers_timeout_s = no_workers_timeout_s
        self._waiting: dict[Future[Any], RemoteFuture] = {}
        assert client.loop is not None  # a client that is connected has one
        self._loop = client.loop
        self._loop.add_callback(self._watch)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future of ``fn(*args, **kwargs)``, all of which are pickled. Nothing is merged with an equal call."""
        local: Future[T] = Future()
        remote = self._client.submit(partial(fn, *args, **kwargs), pure=False)
        self._waiting[local] = remote
        local.add_done_callback(self._release)
        self._loop.add_callback(self._deliver, local, remote)
        return local

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is left waiting, if ``cancel_futures``; the client belongs to who opened it."""
        for local in list(self._waiting) if cancel_futures else ():
            local.cancel()

    def _release(self, local: Future[Any]) -> None:
        remote = self._waiting.pop(local, None)
        if remote is not None:
            remote.release()  # a task nobody waits for is taken back by the scheduler unless it runs already

    # The rest runs in the client's event loop, so that each future is settled by one of them only.

    async def _deliver(self, local: Future[Any], remote: RemoteFuture) -> None:
        from distributed import KilledWorker

        try:
            result = await remote.result()
        except KilledWorker as error:
            reason = f"given up after {error.allowed_failures + 1} workers died on it, {error.last_worker.address} last"
            self._settle(local, SimulationError(reason))
        except (Exception, asyncio.CancelledError) as error:
            raised_by_task = remote.status == "error"
            lost = ExecutorError(f"lost the connection to the Dask scheduler; {_RESUME}")
            self._settle(local, error if raised_by_task else lost)
        else:
            self._settle(local, None, result)

    async def _watch(self) -> None:
        seen = monotonic()
        while self._client.status in {"running", "connecting"}:
            await asyncio.sleep(_WATCH_S)
            try:
                workers = await self._client.nthreads()
            except OSError:
                continue  # the client itself cancels what waits when its connection is lost
            if workers or not self._waiting:
                seen = monotonic()
            elif monotonic() - seen > self._no_workers_timeout_s:
                error = ExecutorError(
                    f"the Dask cluster had no worker for {self._no_workers_timeout_s:g} s; start some, then {_RESUME}"
                )
                for local in list(self._waiting):
                    self._settle(local, error)

    @staticmethod
    def _settle(local: Future[Any], error: BaseException | None, result: object = None) -> None:
        if local.done() or not local.set_running_or_notify_cancel():
            return
        if error is None:
            local.set_result(result)
        else:
            local.set_exception(error)


def _parse(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise SpecError(
            f"--executor {text!r}: not an executor; use local, or dask://HOST:PORT with the address of a Dask "
            "scheduler, such as dask://127.0.0.1:8786"
        )
    return f"tcp://{match['host']}:{match['port']}"


def _is_scheduler(address: str) -> bool:
    """Whether a Dask scheduler answers; asked first, as a client that was refused in the middle cannot be closed."""
    from distributed import rpc

    async def ask() -> str:
        async with rpc(address, timeout=CONNECT_TIMEOUT_S) as remote:
            return str((await remote.identity())["type"])

    with ThreadPoolExecutor(1) as pool:  # the caller's thread may have an event loop already
        answer = pool.submit(asyncio.run, asyncio.wait_for(ask(), CONNECT_TIMEOUT_S))
        try:
            return answer.result() == "Scheduler"
        except Exception:  # a web server in its place can make its reader raise anything, MemoryError included
            return False


def _require_package(client: Client) -> None:
    """ExecutorError when the scheduler or a worker cannot import what it is sent: it would fail without a word."""
    wanted = "analog_deq.spice.remote:run_on_worker"
    try:
        client.run_on_scheduler(resolve_name, wanted)
        client.run(resolve_name, wanted)
    except ImportError as error:
        raise ExecutorError(
            f"the Dask scheduler or one of its workers cannot import {error.name}; install the same analog-deq there, "
            "with pip install 'analog-deq[dask]'"
        ) from error


@contextmanager
def _silenced(package: str) -> Iterator[None]:
    """Losses are reported by the errors above; the library's log lines would only stand between the progress."""
    known = [log for log in logging.root.manager.loggerDict.values() if isinstance(log, logging.Logger)]
    before = {log: log.handlers for log in known if log.name.split(".")[0] == package and log.handlers}
    for log in before:
        log.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        for log, handlers in before.items():
            log.handlers = handlers
