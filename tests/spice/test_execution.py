"""Limits, kills and leftovers: whatever ends a simulation, it is counted, and no process and no half folder stays."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from cluster import entries, living_in, wait_until

from analog_deq.errors import ExecutorError, ResourceLimitError, SimulationTimeoutError
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Alter, Deck, Op, Tran
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.process import Limits, run_child
from analog_deq.spice.remote import marked_site, require_fit
from analog_deq.spice.runner import run_cached, run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

MIB = 2**20
FOREVER = "* forever {}\nR1 a 0 1\n.control\nlet i = 1\nwhile i\nlet i = 1\nend\n.endc\n.end\n"
needs_proc = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for the children in /proc")


def divider(volts: float) -> Deck:
    circuit = ["V1 in 0 1.0", "R1 in out 1e3", "R2 out 0 1e3"]
    return build_deck("divider", circuit, [Alter((("V1", volts),)), Op()], save=["v(out)"])


def ladder(rungs: int) -> Deck:
    """Takes about 2 kB of memory and 25 bytes of deck a rung, and ngspice writes a copy of the deck."""
    steps = [f"R{k} n{k} n{k + 1} 1e3" for k in range(rungs)]
    return build_deck("ladder", ["V1 n0 0 1", *steps, f"Rz n{rungs} 0 1e3"], [Op()], save=["v(n1)"])


def wave(points: int) -> Deck:
    """Writes 16 bytes a point."""
    step = 1e-9
    circuit = ["V1 a 0 sin(0 1 1e6)", "R1 a b 1e3", "C1 b 0 1e-9"]
    return build_deck("wave", circuit, [Tran(step, points * step, step)], save=["v(b)"])


# Limits


def test_memory_and_file_limits_are_counted_failures_beside_good_runs(simulator: Simulator, tmp_path: Path) -> None:
    decks = [divider(1), ladder(40_000), divider(2), wave(70_000)]
    tight = Limits(file_bytes=MIB, memory_bytes=64 * MIB)
    outcomes = simulate_all(decks, simulator=simulator, root=tmp_path, stage="s", timeout_s=30, limits=tight)
    assert [o.status for o in outcomes] == [
        "ok",
        "limit: ngspice may not take more than 64 MiB of memory and needs it",
        "ok",
        "limit: ngspice may not write a file of more than 1 MiB and would",
    ]
    for outcome in outcomes[1::2]:
        assert isinstance(outcome.error, ResourceLimitError)
        assert (outcome.error.folder / "ngspice.log").is_file()
    roomy = simulate_all(decks, simulator=simulator, root=tmp_path, stage="s", timeout_s=30)
    assert [o.run is not None and o.run.reused for o in roomy] == [True, False, True, False]
    assert all(not name.endswith(".failed") for name in entries(tmp_path / "s"))  # what failed then is good now


@needs_proc
def test_a_time_limit_kills_what_the_simulator_started(simulator: Simulator, tmp_path: Path) -> None:
    script = tmp_path / "ngspice"
    script.write_text(f'#!/bin/sh\nsleep 60 &\nexec {simulator.executable} "$@"\n')
    script.chmod(0o755)
    helped = dataclasses.replace(simulator, executable=script)
    with pytest.raises(SimulationTimeoutError):
        run_deck(Deck(FOREVER, ()), simulator=helped, folder=tmp_path / "runs", timeout_s=0.3)
    wait_until(lambda: living_in(tmp_path) == [], seconds=2)


def test_a_limit_of_the_administrator_is_kept(tmp_path: Path) -> None:
    """A process may not raise its own hard limits; asking for more must not stop the simulation."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "from pathlib import Path; from analog_deq.spice.process import Limits, run_child\n"
        "ended = run_child(['/bin/sh', '-c', 'ulimit -f'], folder=Path('.'), environment={}, log=Path('log'),\n"
        "                  timeout_s=10, limits=Limits())\n"
        "print(ended.returncode, Path('log').read_text().strip())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(MIB // 512)]


# Kills

SCRIPT = """
import sys
from pathlib import Path
from analog_deq.records import Deck
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.simulator import find_simulator
decks = [Deck(Path(name).read_text(), ()) for name in sys.argv[2:]]
simulate_all(decks, simulator=find_simulator(), root=Path(sys.argv[1]), stage="s", jobs=2)
"""


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_program_leaves_no_simulator_and_its_rest_is_swept(
    simulator: Simulator, tmp_path: Path, how: signal.Signals
) -> None:
    root = tmp_path / "runs"
    kept = run_cached(divider(1), simulator=simulator, root=root, stage="s")
    names = []
    for k in range(3):
        names.append(str(tmp_path / f"{k}.cir"))
        Path(names[-1]).write_text(FOREVER.format(k))
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(root), *names]) as program:
        wait_until(lambda: len(living_in(root)) == 2 or program.poll() is not None)
        program.send_signal(how)
        assert program.wait(timeout=10) == -how
    wait_until(lambda: living_in(root) == [], seconds=2)
    assert len([name for name in entries(root / "s") if name.startswith(".")]) == 2
    (again,) = simulate_all([divider(1)], simulator=simulator, root=root, stage="s")
    assert again.run is not None
    assert again.run.reused
    assert entries(root / "s") == [kept.folder.name]


@needs_proc
def test_what_another_process_is_writing_is_not_swept(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "0.cir").write_text(FOREVER.format(0))
    root = tmp_path / "runs"
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(root), str(tmp_path / "0.cir")]) as program:
        try:
            wait_until(lambda: living_in(root) or program.poll() is not None)
            simulate_all([divider(1)], simulator=simulator, root=root, stage="s")
            assert len(entries(root / "s")) == 2
            assert len(living_in(root)) == 1
        finally:
            program.kill()


def test_a_child_whose_parent_is_gone_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # the shell will find that its parent is another process
    ended = run_child(
        ["/bin/sh", "-c", "touch started"], folder=tmp_path, environment={}, log=tmp_path / "log", timeout_s=10,
        limits=Limits(),
    )  # fmt: skip
    assert ended.returncode != 0
    assert entries(tmp_path) == ["log"]


# Other processes


def test_processes_that_publish_one_folder_agree(simulator: Simulator, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        calls = [pool.submit(run_cached, wave(2000), simulator=simulator, root=tmp_path, stage="s") for _ in range(10)]
        runs = [call.result(timeout=60) for call in calls]
        assert len({run.plots[0].data.tobytes() for run in runs}) == 1
        assert entries(tmp_path / "s") == [runs[0].folder.name]
        outcomes = simulate_all(
            [divider(1), divider(2)], simulator=simulator, root=tmp_path, stage="s", executor=pool, timeout_s=20
        )
    assert [o.run.plots[0]["v(out)"].tolist() for o in outcomes if o.run] == [[0.5], [1.0]]


def test_a_worker_must_share_source_folder_and_simulator(simulator: Simulator, tmp_path: Path) -> None:
    with marked_site(tmp_path, simulator) as site:
        require_fit(site)
        with pytest.raises(ExecutorError, match="other source files of analog-deq"):
            require_fit(dataclasses.replace(site, source_sha256="0" * 64))
        with pytest.raises(ExecutorError, match=rf"does not see the run folder {tmp_path / 'else'}"):
            require_fit(dataclasses.replace(site, mark=tmp_path / "else" / "mark"))
        with pytest.raises(ExecutorError, match=r"is ngspice .* there and 0 .* here"):
            require_fit(dataclasses.replace(site, simulator=dataclasses.replace(simulator, version="0")))
        absent = dataclasses.replace(simulator, executable=tmp_path / "absent")
        with pytest.raises(ExecutorError, match=r"worker .* is not an executable"):
            require_fit(dataclasses.replace(site, simulator=absent))
    assert entries(tmp_path) == []


def test_progress_of_many_copies_is_cheap(simulator: Simulator, tmp_path: Path) -> None:
    began = time.perf_counter()
    outcomes = simulate_all([divider(1)] * 20_000, simulator=simulator, root=tmp_path, stage="s")
    assert time.perf_counter() - began < 5
    assert len({id(o.run) for o in outcomes}) == 1
