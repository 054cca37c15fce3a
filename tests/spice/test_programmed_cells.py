"""Programmed memristors in ngspice: the netlist of each cell makes the conductance that the statistics say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import conductances, design

from analog_deq.draws import Stream, generator
from analog_deq.netlists.device import device_statistics
from analog_deq.netlists.library import load_cell
from analog_deq.netlists.neuron import load_cells
from analog_deq.programming.design import program_die, read_die
from analog_deq.records import Progress
from analog_deq.spec import Cells
from analog_deq.verify.dies import draw_die, read_dies
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed

pytestmark = pytest.mark.spice


@pytest.mark.parametrize(
    ("cell", "ages"), [("pcm", (None, 20.0, 86400.0)), ("rram_cmo", (None, 3600.0, 2.592e6)), ("rram_hfox", (None,))]
)
@pytest.mark.parametrize("read_noise", [True, False])
def test_a_programmed_die_conducts_as_its_statistics_say(
    simulator, tmp_path: Path, cell: str, ages: tuple[float | None, ...], read_noise: bool
) -> None:
    own = device_statistics(load_cell(cell))
    g_pos, g_neg = conductances(9, 4, low=0.4 * own.g_max_siemens, high=own.g_max_siemens)
    for age in ages:
        d = design(
            4, 4, cells={"synapse": cell},
            programming={
                "passes": 5, "tolerance_siemens": 0.02 * own.g_max_siemens, "age_s": age, "read_noise": read_noise
            },
        )  # fmt: skip
        spec = d.programming
        assert spec is not None
        nominal = LoweredNetwork(d, load_cells(Cells(synapse=cell)), g_pos, g_neg, simulator.klu, 10.0)
        (die,), lost = read_dies([draw_die(nominal, 3)], Bed(simulator, tmp_path, 1), Progress())
        assert not lost
        programmed = program_die(own, np.stack([g_pos, g_neg]), spec, d.seed, 3)
        expected = read_die(programmed, spec, generator(d.seed, Stream.READ_NOISE, 3))
        if cell == "rram_hfox":
            expected = expected * 4.3 * np.sinh(0.1 / 0.43)  # its chord at the voltage of the read
        assert die.seen == pytest.approx(expected, rel=1e-6)
        assert np.abs(die.seen / np.stack([g_pos, g_neg]) - 1).max() > 0.005
