"""Simulations on a real Dask cluster: the same bits as here, and nothing lost or done twice whoever dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from cluster import Cluster, cluster, entries, living_in, parent_of, wait_until
from helpers import design, plan

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import NeuronMismatch
from analog_deq.calibration.transfer import Transfer
from analog_deq.errors import ExecutorError
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.neuron import load_cells
from analog_deq.records import Alter, Deck, Op, Progress, Tran
from analog_deq.spec import Cells
from analog_deq.spice.execution import Outcome, simulate_all
from analog_deq.spice.executors import DaskExecutor, open_executor
from analog_deq.spice.process import Limits
from analog_deq.spice.simulator import Simulator

pytestmark = [
    pytest.mark.spice,
    pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for the simulators in /proc"),
]

DIVIDER = ["V1 in 0 1.0", "R1 in out 1e3", "R2 out 0 1e3"]
SINGULAR = build_deck("loop", ["V1 out 0 1", "V2 out 0 2"], [Op()], save=["v(out)"])
FOREVER = [
    Deck(f"* forever {k}\nR1 a 0 1\n.control\nlet i = 1\nwhile i\nlet i = 1\nend\n.endc\n.end\n", ()) for k in range(4)
]


def divider(volts: float) -> Deck:
    return build_deck("divider", DIVIDER, [Alter((("V1", volts),)), Op()], save=["v(out)"])


def ladder(rungs: int) -> Deck:
    steps = [f"R{k} n{k} n{k + 1} 1e3" for k in range(rungs)]
    return build_deck("ladder", ["V1 n0 0 1", *steps, f"Rz n{rungs} 0 1e3"], [Op()], save=["v(n1)"])


def slow(k: int) -> Deck:
    """Nearly half a second of ngspice."""
    circuit = [f"V1 a 0 sin(0 {k + 1} 1e6)", "R1 a b 1e3", "C1 b 0 1e-9"]
    return build_deck(f"slow {k}", circuit, [Tran(1e-9, 4e-5, 1e-9)], save=["v(b)"])


def data(outcomes: list[Outcome]) -> list[tuple[str, list[bytes]]]:
    """Statuses without the folders they name, and every number."""
    return [(o.status, [p.data.tobytes() for p in o.run.plots] if o.run else []) for o in outcomes]


class Counter(Progress):
    def __init__(self) -> None:
        self.done = self.failed = 0

    def advance(self, steps: int = 1, failed: int = 0) -> None:
        self.done += steps
        self.failed += failed


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "cluster") as started:
        yield started


def when_running(root: Path, count: int, act: Callable[[list[int]], None]) -> threading.Thread:
    """``act`` on the simulators as soon as ``count`` of them run below ``root``."""

    def watch() -> None:
        wait_until(lambda: len(living_in(root)) >= count)
        act(living_in(root))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_two_workers_give_the_same_bits_as_this_process(simulator: Simulator, tmp_path: Path, two: Cluster) -> None:
    decks = [divider(k) for k in range(1, 7)] + [SINGULAR, divider(1), ladder(100_000)]
    here = {"simulator": simulator, "stage": "s", "limits": Limits(memory_bytes=64 * 2**20), "timeout_s": 30.0}
    local = simulate_all(decks, root=tmp_path / "a", jobs=1, **here)
    with open_executor(two.address) as executor:
        progress = Counter()
        remote = simulate_all(decks, root=tmp_path / "b", executor=executor, progress=progress, **here)
        assert (progress.done, progress.failed) == (9, 2)
        assert data(remote) == data(local)
        assert [o.status.split(":")[0] for o in remote] == ["ok"] * 6 + ["convergence", "ok", "limit"]
        assert entries(tmp_path / "b" / "s") == entries(tmp_path / "a" / "s")
        assert remote[6].error.log_tail == local[6].error.log_tail != ""
        again = simulate_all(decks, root=tmp_path / "b", executor=executor, **here)
        assert all(o.run is None or o.run.reused for o in again)
        assert simulate_all([], root=tmp_path / "b", executor=executor, **here) == []


def test_a_campaign_has_equal_tables_whoever_simulates(
    simulator: Simulator, tmp_path: Path, two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative folder is this process's, not the workers'
    bench = Bench(
        design(),
        plan(mismatch={"dies": 8, "block": 3, "points": 9}, transfer={"points": 21}),
        load_cells(Cells(), None),
    )
    with open_executor(two.address) as executor:
        places = {"one": {"jobs": 1}, "two": {"jobs": 2}, "dask": {"executor": executor}}
        results = {
            name: run_campaign(
                bench, simulator=simulator, root=Path(name), measurements=(Transfer(), NeuronMismatch()), **place
            )
            for name, place in places.items()
        }
    for name in ("two", "dask"):
        assert list(results[name].tables) == list(results["one"].tables)
        assert results[name].reused == 0
        assert entries(Path(name) / "spice") == entries(Path("one") / "spice")
        for table, rows in results["one"].tables.items():
            assert (rows["status"] == "ok").all()
            pd.testing.assert_frame_equal(rows, results[name].tables[table], check_exact=True)


def test_a_worker_killed_in_mid_run_loses_nothing_and_repeats_nothing(
    simulator: Simulator, tmp_path: Path, two: Cluster
) -> None:
    root, progress = tmp_path / "runs", Counter()
    decks = [slow(k) for k in range(4)]
    orphans: list[int] = []

    def kill(simulators: list[int]) -> None:
        victim = two.workers[0]
        orphans.extend(p for p in simulators if parent_of(p) == victim.pid)
        victim.kill()
        wait_until(lambda: not set(orphans) & set(living_in(root)), seconds=2)

    killer = when_running(root, 2, kill)
    with open_executor(two.address) as executor:
        outcomes = simulate_all(decks, simulator=simulator, root=root, stage="s", executor=executor, progress=progress)
    killer.join()
    assert two.workers[0].wait() == -signal.SIGKILL
    assert len(orphans) == 1
    assert [o.status for o in outcomes] == ["ok"] * 4
    assert (progress.done, progress.failed) == (4, 0)
    assert sorted({o.run.folder.name for o in outcomes}) == entries(root / "s")  # no half folder, none twice
    assert data(outcomes) == data(simulate_all(decks, simulator=simulator, root=tmp_path / "here", stage="s"))


def test_a_simulation_whose_workers_die_is_a_counted_failure(simulator: Simulator, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    patience = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with cluster(tmp_path / "cluster", 1, **patience) as started, open_executor(started.address) as executor:

        def kill(_: list[int]) -> None:
            started.workers[0].kill()
            started.start_worker()

        killer = when_running(root, 1, kill)
        where = {"simulator": simulator, "root": root, "stage": "s", "executor": executor}
        (outcome,) = simulate_all([slow(0)], **where)
        killer.join()
        assert outcome.run is None
        assert outcome.status.startswith("simulation: given up after 1 workers died on it, tcp://127.0.0.1:")
        assert [o.status for o in simulate_all([slow(1)], **where)] == ["ok"]


def test_without_any_worker_the_wait_is_bounded(simulator: Simulator, tmp_path: Path, two: Cluster) -> None:
    from distributed import Client

    root = tmp_path / "runs"
    killer = when_running(root, 2, lambda _: [worker.kill() for worker in two.workers])
    with Client(f"tcp{two.address[4:]}", set_as_default=False) as client:
        executor = DaskExecutor(client, no_workers_timeout_s=1.0)
        began = time.monotonic()
        with pytest.raises(ExecutorError, match=r"no worker for 1 s; start some, then run the same command again"):
            simulate_all(FOREVER, simulator=simulator, root=root, stage="s", executor=executor)
        assert time.monotonic() - began < 8
        killer.join()
        two.start_worker()
        assert [
            o.status for o in simulate_all([divider(1)], simulator=simulator, root=root, stage="s", executor=executor)
        ] == ["ok"]
    assert living_in(root) == []


SCRIPT = """
import signal, sys
from pathlib import Path
from analog_deq.errors import ExecutorError
from analog_deq.records import Deck
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.executors import open_executor
from analog_deq.spice.simulator import find_simulator
signal.signal(signal.SIGINT, signal.default_int_handler)
decks = [Deck(Path(name).read_text(), ()) for name in sys.argv[3:]]
try:
    with open_executor(sys.argv[1]) as executor:
        simulate_all(decks, simulator=find_simulator(), root=Path(sys.argv[2]), stage="s", executor=executor)
except ExecutorError as error:
    sys.exit(str(error))
"""


@contextmanager
def program_at_work(two: Cluster, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of its own that simulates FOREVER below ``root``, as soon as both workers are at it."""
    names = []
    for k, deck in enumerate(FOREVER):
        names.append(str(two.folder / f"{k}.cir"))
        Path(names[-1]).write_text(deck.text)
    command = [sys.executable, "-c", SCRIPT, two.address, str(root), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=two.folder) as program:
        try:
            wait_until(lambda: len(living_in(root)) == 2 or program.poll() is not None)
            yield program
        finally:
            program.kill()


def test_a_lost_scheduler_is_one_clear_error(simulator: Simulator, tmp_path: Path, two: Cluster) -> None:
    root = tmp_path / "runs"
    with program_at_work(two, root) as program:
        two.scheduler.kill()
        output, errors = program.communicate(timeout=15)
    assert program.returncode == 1
    mend = b"run the same command again: finished simulations are reused"
    assert (output, errors.strip()) == (b"", b"lost the connection to the Dask scheduler; " + mend)
    wait_until(lambda: living_in(root) == [], seconds=5)  # the workers call off what nobody waits for


def test_ctrl_c_calls_off_the_simulations_of_the_workers(simulator: Simulator, tmp_path: Path, two: Cluster) -> None:
    root = tmp_path / "runs"
    with program_at_work(two, root) as program:
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=10)
    assert program.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    wait_until(lambda: living_in(root) == [], seconds=5)
    time.sleep(1.0)  # the two that waited do not start after all
    assert living_in(root) == []
    wait_until(lambda: entries(root / "s") == [], seconds=2)
    with open_executor(two.address) as executor:  # the workers are free again
        outcomes = simulate_all([divider(1)], simulator=simulator, root=root, stage="s", executor=executor)
    assert outcomes[0].status == "ok"


def test_a_worker_that_differs_is_refused(simulator: Simulator, tmp_path: Path, two: Cluster) -> None:
    with open_executor(two.address) as executor:
        other = dataclasses.replace(simulator, version="0")
        with pytest.raises(
            ExecutorError, match=rf"ngspice {simulator.version} .* there and 0 .* here; install the same"
        ):
            simulate_all([divider(1)], simulator=other, root=tmp_path, stage="s", executor=executor)
    assert entries(tmp_path / "s") == []


def test_futures_can_be_cancelled_and_pass_on_any_error(tmp_path: Path, two: Cluster) -> None:
    with open_executor(two.address) as executor:
        assert executor is not None
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=10)
        with pytest.raises(FileNotFoundError):
            executor.submit(os.stat, str(tmp_path / "absent")).result(timeout=10)
        waiting = [executor.submit(time.sleep, 1) for _ in range(50)]
        executor.shutdown(cancel_futures=True)
        assert all(future.cancelled() for future in waiting)
        assert executor.submit(time.sleep, 0).result(timeout=8) is None  # not after 25 s of sleep
    with ThreadPoolExecutor(1) as threads, open_executor(None) as executor:
        assert executor is None
        assert threads.submit(int, "1").result() == 1
