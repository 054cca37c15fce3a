"""The drop over mismatch dies: paired with software on the same images, whole dies resampled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from analog_deq.train.deployed import Readout
from analog_deq.verify.compare import drop_over_dies, passing_dies

IMAGES, PER_DIE = 200, 40
Y = np.arange(IMAGES) % 2
READOUT = Readout(torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), 8)


def reading(labels: np.ndarray) -> np.ndarray:
    """Readings (images, 2) that the readout gives these labels."""
    return np.where(labels[:, None] == np.arange(2), 0.8, -0.8)


def dies(wrong: list[int], failed: int = 0) -> list[Any]:
    """Dies that get so many of their images wrong; on the last, ``failed`` images have no result."""
    made = []
    for die, count in enumerate(wrong):
        images = np.random.default_rng(die).choice(IMAGES, PER_DIE, replace=False)
        labels = Y[images].copy()
        labels[:count] = 1 - labels[:count]
        ok = np.ones(PER_DIE, dtype=bool)
        if die == len(wrong) - 1:
            ok[PER_DIE - failed :] = False
        sweep = SimpleNamespace(ok=ok, states=SimpleNamespace(z=np.where(ok[:, None], reading(labels), np.nan)))
        made.append(SimpleNamespace(die=die, images=images, trimmed=sweep, untrimmed=sweep))
    return made


def test_the_drop_counts_lost_images_over_all_dies_and_its_interval_the_spread_of_dies() -> None:
    even = drop_over_dies(dies([2] * 20), READOUT, Y, reading(Y), 1)
    apart = drop_over_dies(dies([0, 4] * 10), READOUT, Y, reading(Y), 1)
    assert even.value == apart.value == pytest.approx(100 * 2 / PER_DIE)
    assert even.interval is not None
    assert apart.interval is not None
    assert np.diff(apart.interval) > np.diff(even.interval)
    assert (even.n, even.unit) == (20, "points")
    for part in ("800 images on 20 dies", "40 lost, 0 gained", "McNemar p", "bootstrap over 20 dies"):
        assert part in even.detail


def test_an_image_without_a_result_is_lost() -> None:
    found = drop_over_dies(dies([0] * 5, failed=8), READOUT, Y, reading(Y), 1)
    assert found.value == pytest.approx(100 * 8 / (5 * PER_DIE))
    assert found.failed_samples == 1
    alone = drop_over_dies(dies([3]), READOUT, Y, reading(Y), 1)
    assert "Newcombe" in alone.detail


def test_a_die_passes_within_the_allowed_drop() -> None:
    passes = passing_dies(dies([0, 1, 2, 3]), READOUT, Y, reading(Y), 2 / PER_DIE)
    assert passes["net.yield_mismatch"].tolist() == [True, True, True, False]
