"""A digits network of phase-change cells through time: written, verified, aged and read, on dies in ngspice.

First write and verify against its closed forms. Then the network of ``pcm`` cells with 2 ohm wires, calibrated and
fitted here, trained on draws of freshly programmed cells, of cells a day old, and of verified ones a day old. Their
dies are simulated at ages from 20 s to a month, without and with the offset trim, which is done at that age.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row
from trained_digits import Trained, base_design, train

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.draws import Stream, generator
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.device import device_statistics
from analog_deq.netlists.neuron import load_cells
from analog_deq.programming import acceptance, remaining_sigma, write_verify
from analog_deq.provenance import Provenance
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec, Programming, read_plan
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.statistics import mean_interval
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable
from analog_deq.verify.dies import run_dies
from analog_deq.verify.sweeps import Bed

PERCENT = 100.0
AGES_S = (20.0, 3600.0, 86400.0, 2.592e6)
DAY_S = 86400.0
LOADS = (0.03e-3, 0.1e-3, 0.2e-3, 0.35e-3, 0.5e-3, 0.75e-3, 1.0e-3)
"""Loads at the summing node, a quarter of those of the shipped plan: the cells conduct a quarter of its synapses."""
TIMEOUT_S = 600.0
DRAWS = 200_000


def closed_forms(machine: str) -> Iterator[Row]:
    """Relative distance of drawn passes and remaining errors from their closed forms."""
    sigma, tolerance = 1e-6, 0.5e-6
    for read_sigma in (0.0, 0.5e-6):
        name = f"programming.write_verify.read_{1e6 * read_sigma:g}uS"
        done = write_verify(
            np.full(DRAWS, sigma), np.full(DRAWS, read_sigma), tolerance, 1000, np.random.default_rng(0)
        )
        p, left = acceptance(sigma, read_sigma, tolerance), remaining_sigma(sigma, read_sigma, tolerance)
        yield value_row(f"{name}.passes", machine, float(done.passes.mean()), DRAWS)
        yield value_row(f"{name}.passes_off_relative", machine, float(abs(done.passes.mean() * p - 1)), DRAWS, bar=0.01)
        yield value_row(f"{name}.error_left_of_sigma", machine, float(done.error.std() / sigma), DRAWS)
        yield value_row(f"{name}.error_off_relative", machine, float(abs(done.error.std() / left - 1)), DRAWS, bar=0.01)


def pcm_design(states: int) -> DesignSpec:
    """The digits design on phase-change cells: conductances and loads a quarter, R_F four times."""
    return base_design(
        states, 0, cells={"synapse": "pcm"}, neuron={"r_feedback_ohm": 40e3, "c_feedback_f": 5e-12},
        crossbar={"g_min_siemens": 0.25e-6, "g_max_siemens": 25e-6, "levels": 0},
    )  # fmt: skip


def measured_proxy(design: DesignSpec, bed: Bed) -> ProxyParameters:
    """The proxy of the design, calibrated in ngspice, with the statistics of its cells."""
    shipped_plan = read_plan(shipped("calibration/plans") / "neuron.toml")
    mismatch = {"load_siemens": LOADS[3], "conductances_siemens": (0.25e-6, 2.5e-6, 6e-6, 12.5e-6, 25e-6)}
    drivers = (0.0, 0.25e-3, 0.5e-3, 1.0e-3)
    plan = shipped_plan.model_copy(
        update={
            "transfer": shipped_plan.transfer.model_copy(
                update={"loads_siemens": LOADS, "driver_loads_siemens": drivers}
            ),
            "settling": shipped_plan.settling.model_copy(update={"loads_siemens": LOADS}),
            "noise": shipped_plan.noise.model_copy(update={"loads_siemens": (LOADS[0], 0.1e-3, 0.25e-3, 0.5e-3, 1e-3)}),
            "mismatch": shipped_plan.mismatch.model_copy(update=mismatch),
        }
    )
    cells = load_cells(design.cells)
    result = run_campaign(
        Bench(design, plan, cells), simulator=bed.simulator, root=bed.root, jobs=1, timeout_s=TIMEOUT_S
    )
    header = {"schema_name": SCHEMA, "schema_version": 1, "seed": design.seed, "inputs": {}}
    tables = {
        name: CalibrationTable(name, rows, Provenance.model_validate({**header, "units": COLUMNS[name]}))
        for name, rows in result.tables.items()
    }
    fitted = fit_proxy(
        tables, design, plan.tolerances, {}, {}, not_modelled=cells.not_modelled, relative_spread=cells.relative_spread
    )
    return fitted.model_copy(update={"device": device_statistics(cells.synapse)})


def through_time(states: int, dies: int, simulator: Simulator, machine: str, folder: Path) -> Iterator[Row]:
    """Rows of accuracy over dies by age, for a network trained on fresh cells and one trained on cells a day old."""
    bed = Bed(simulator, folder, 1, TIMEOUT_S)
    note("calibrating phase-change cells")
    design = pcm_design(states)
    proxy = measured_proxy(design, bed)
    written = {"passes": 10, "tolerance_siemens": 0.5e-6}
    ways = {
        "fresh": (None, {}), "aged": (Programming(age_s=DAY_S), {}),
        "aged_verified": (Programming(age_s=DAY_S, **written), written),
    }  # fmt: skip
    for way, (training, writing) in ways.items():
        note(f"training on {way} draws")
        net = train(design.model_copy(update={"programming": training}), proxy)
        reading = net.model().solve(net.task.x_test, domain_share=None).reading.numpy()
        yield value_row(
            f"programming.pcm.{way}.nominal_proxy_accuracy_percent", machine, PERCENT * net.accuracy(reading), 1
        )
        for age in AGES_S:
            own = replace(net, design=design.model_copy(update={"programming": Programming(age_s=age, **writing)}))
            yield from age_rows(f"programming.pcm.{way}.age_{age:g}s", own, dies, bed, machine)


def age_rows(name: str, net: Trained, dies: int, bed: Bed, machine: str) -> Iterator[Row]:
    """Accuracy of dies at the age of the design; an image that failed is a wrong one."""
    note(name)
    chosen = generator(net.design.seed, Stream.VERIFY_CHOICE, 10**6 + 1).choice(
        len(net.task.x_train), net.design.verify.trim_images, replace=False
    )
    x_trim = net.task.x_train[torch.as_tensor(chosen)]
    results = run_dies(
        net.lowered(bed.simulator.klu), net.model(), net.task.x_test, x_trim, range(dies), bed, Progress()
    )
    y = net.task.y_test.numpy()
    for label in ("untrimmed", "trimmed"):
        accuracy = []
        for result in results:
            sweep = getattr(result, label)
            right = net.readout.predict(torch.as_tensor(np.nan_to_num(sweep.states.z))).numpy() == y[result.images]
            accuracy.append(PERCENT * float(np.mean(np.where(sweep.ok, right, False))))
        low, high = mean_interval(np.array(accuracy))
        yield value_row(
            f"{name}.{label}.accuracy_percent", machine, float(np.mean(accuracy)), dies, interval=(low, high)
        )
        yield value_row(f"{name}.{label}.accuracy_min_percent", machine, min(accuracy), dies)
    failed = sum(int(np.sum(~r.untrimmed.ok)) + int(np.sum(~r.trimmed.ok)) for r in results)
    yield value_row(f"{name}.failed_images", machine, failed, 2 * dies * net.design.verify.images_per_die, bar=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/programming.py --dies 20")
    add_count(made, "--states", 32, "neurons")
    add_count(made, "--dies", 20, "dies at each age")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        machine = machine_name(simulator)
        yield from closed_forms(machine)
        with tempfile.TemporaryDirectory() as folder:
            yield from through_time(options.states, options.dies, simulator, machine, Path(folder))

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
