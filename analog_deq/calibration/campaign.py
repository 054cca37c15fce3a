"""Calibration: every measurement of a plan on a design, as tables in which a failed sample is a row.

Samples are simulated in blocks of copies. A block that fails is halved and simulated again until the failing
sample stands alone, so one die that does not converge costs itself and no neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analog_deq.calibration.crossbar import CrossbarCurrents
from analog_deq.calibration.measurement import AbstractMeasurement, Bench, Rows, with_status
from analog_deq.calibration.mismatch import ConductanceMismatch, NeuronMismatch
from analog_deq.calibration.noise import NoiseDensity
from analog_deq.calibration.settling import Settling
from analog_deq.calibration.supply import SupplyCurrent
from analog_deq.calibration.synapse import SynapseCurve
from analog_deq.calibration.synapse_noise import SynapseNoise
from analog_deq.calibration.transfer import Transfer
from analog_deq.records import Deck, Progress
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.process import Limits
from analog_deq.spice.simulator import Simulator
from analog_deq.tables import COLUMNS

MEASUREMENTS: tuple[AbstractMeasurement, ...] = (
    Transfer(),
    Settling(),
    NoiseDensity(),
    NeuronMismatch(),
    ConductanceMismatch(),
    SynapseCurve(),
    SynapseNoise(),
    CrossbarCurrents(),
    SupplyCurrent(),
)

RETRY_TIMEOUT_S = 10.0
"""Shortest time limit of a halved block; a block of 64 takes about 2 s."""


@dataclass(frozen=True, slots=True)
class _Block:
    measurement: AbstractMeasurement
    samples: tuple[Any, ...]
    decks: tuple[Deck, ...]


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """Tables by name, number of samples, of failed samples, of ngspice runs, and of those taken from the cache."""

    tables: dict[str, pd.DataFrame]
    samples: int
    failed: int
    runs: int
    reused: int


def run_campaign(
    bench: Bench,
    *,
    simulator: Simulator,
    root: Path,
    jobs: int | None = None,
    timeout_s: float = 120.0,
    limits: Limits | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
    measurements: Sequence[AbstractMeasurement] = MEASUREMENTS,
) -> CampaignResult:
    """Simulate every sample of ``measurements``; rows come back in sample order whatever ran first."""
    progress = progress or Progress()
    limit_s = timeout_s
    pending = [block for m in measurements for block in _blocks(bench, m, m.samples(bench), m.block_size(bench))]
    order = {id(m): {repr(s): k for k, s in enumerate(m.samples(bench))} for m in measurements}
    done: list[tuple[int, int, Rows]] = []
    failed = runs = reused = 0
    while pending:
        decks = [deck for block in pending for deck in block.decks]
        outcomes = simulate_all(
            decks, simulator=simulator, root=root, stage="spice", jobs=jobs, timeout_s=limit_s, limits=limits,
            progress=progress, executor=executor,
        )  # fmt: skip
        runs += len(decks)
        reused += sum(1 for o in outcomes if o.run is not None and o.run.reused)
        retry: list[_Block] = []
        cursor = 0
        for block in pending:
            part = outcomes[cursor : cursor + len(block.decks)]
            cursor += len(block.decks)
            m = block.measurement
            place = (list(measurements).index(m), order[id(m)][repr(block.samples[0])])
            plots = [o.run.plots for o in part if o.run is not None]
            if len(plots) == len(part):
                done.append((*place, with_status(m.tabulate(bench, block.samples, plots))))
            elif len(block.samples) > 1:
                retry += _blocks(bench, m, block.samples, (len(block.samples) + 1) // 2)
            else:
                status = next(o.status for o in part if o.run is None)
                done.append((*place, m.failed(bench, block.samples[0], status)))
                failed += 1
        if retry:
            progress.note(f"{len(retry)} half blocks are simulated again to isolate a failing sample")
        pending = retry
        # a deck that never converges runs to its limit at every halving; half the samples need half the time at most
        limit_s = min(limit_s, max(RETRY_TIMEOUT_S, limit_s / 4))
    tables: dict[str, list[pd.DataFrame]] = {}
    for _, _, rows in sorted(done, key=lambda item: item[:2]):
        for name, frame in rows.items():
            tables.setdefault(name, []).append(frame[[*COLUMNS[name], "status"]])
    samples = sum(len(v) for v in order.values())
    return CampaignResult(
        {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()}, samples, failed, runs, reused
    )


def _blocks(bench: Bench, measurement: AbstractMeasurement, samples: Sequence[Any], size: int) -> list[_Block]:
    parts = [tuple(samples[k : k + size]) for k in range(0, len(samples), size)]
    return [_Block(measurement, part, measurement.decks(bench, part)) for part in parts]
