"""The flagship study's own path through ngspice: a distorted circuit calibrated, one die measured, two tuning steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analog_deq.records import Progress
from analog_deq.spice.simulator import find_simulator
from analog_deq.study.campaign import lab_of
from analog_deq.study.tuning import tune
from analog_deq.verify.sweeps import Bed

pytestmark = [pytest.mark.spice, pytest.mark.pipeline]


def test_a_distorted_die_agrees_with_its_proxy_and_is_tuned(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    bed = Bed(find_simulator(), tmp_path / "runs", jobs=1)
    lab = lab_of("qp16", "distorted", 0, bed, tmp_path, Progress())
    few = slice(40)
    lab.task = replace(lab.task, x_test=lab.task.x_test[few], y_test=lab.task.y_test[few])
    start = lab.trained("start")
    circuit = lab.trimmed(start)
    errors = lab.errors(lab.deploy(start, circuit))
    assert errors.failed == 0
    assert errors.spice == pytest.approx(errors.proxy, abs=2e-3)
    # the circuit is far from the mathematics it was built by, and the activation is the reason
    assert errors.spice > 0.2
    tuned = tune(lab, start, circuit, "fitted", steps=2, batch=8)
    assert not torch.equal(tuned.w_input, start.w_input)
    assert not list(lab.folder.glob("tmp*"))
