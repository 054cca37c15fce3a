"""The 3-sigma campaign: finished dies are kept and counted, and what they prove. No ngspice runs here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analog_deq.errors import SpecError
from analog_deq.statistics import scaled_sigma

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("yield_three_sigma")
    finally:
        sys.path.remove(str(FOLDER))


def stored(script: ModuleType, path: Path, lost: np.ndarray, scale: float = 1.0, **key: Any) -> Any:
    """A state whose dies lost so many images each."""
    state = script.State(path, {"seed": 1, **key})
    rows = [(die, int(images), 0, 0, 1.5) for die, images in enumerate(lost)]
    for k in range(0, len(rows), 32):
        state.add({"scale": scale, "dies": rows[k : k + 32], "busy_s": 10.0})
    state.add({"session_s": 400.0, "scales": [scale]})
    return state


CAMPAIGN = SimpleNamespace(images=50, allowed=1)


def figures(rows: Any) -> dict[str, Any]:
    return {row.id.removeprefix("yield."): row for row in rows}


def test_2218_dies_without_a_fail_are_three_sigma_and_one_fail_is_not(script: ModuleType, tmp_path: Path) -> None:
    lost = np.zeros(2218, dtype=int)
    lost[7] = 1
    found = figures(script.count_rows(stored(script, tmp_path / "good.jsonl", lost), CAMPAIGN, "m"))
    assert found["count.within_2_points.lower_95_percent"].holds
    assert not found["count.within_0_points.lower_95_percent"].holds
    assert found["count.three_sigma_of_dies_lose_at_most_points"].ours == 2.0
    assert (found["count.wall_s"].ours, found["count.wall_s"].holds) == (400.0, True)
    lost[8] = 2
    found = figures(script.count_rows(stored(script, tmp_path / "bad.jsonl", lost), CAMPAIGN, "m"))
    assert not found["count.within_2_points.lower_95_percent"].holds
    assert found["count.within_4_points.lower_95_percent"].holds
    assert found["count.three_sigma_of_dies_lose_at_most_points"].ours == 4.0


def test_fewer_dies_bound_nothing(script: ModuleType, tmp_path: Path) -> None:
    found = figures(script.count_rows(stored(script, tmp_path / "few.jsonl", np.zeros(2217)), CAMPAIGN, "m"))
    assert "count.three_sigma_of_dies_lose_at_most_points" not in found
    assert not found["count.within_2_points.lower_95_percent"].holds


def test_only_missing_dies_are_left_and_a_torn_line_costs_its_batch(script: ModuleType, tmp_path: Path) -> None:
    state = stored(script, tmp_path / "torn.jsonl", np.zeros(64))
    lines = state.path.read_text().splitlines()
    state.path.write_text("\n".join([lines[0], lines[1][:40]]))
    assert sorted(script.finished(state, 1.0)) == list(range(32))
    assert script.finished(state, 2.0) == {}


def test_dies_of_another_campaign_are_refused(script: ModuleType, tmp_path: Path) -> None:
    stored(script, tmp_path / "other.jsonl", np.zeros(3))
    with pytest.raises(SpecError, match="another campaign"):
        script.State(tmp_path / "other.jsonl", {"seed": 2}).batches()


def test_wider_dies_become_the_estimate_of_scaled_sigma(script: ModuleType, tmp_path: Path) -> None:
    path, failures = tmp_path / "wide.jsonl", (6, 14, 30, 48, 66, 90)
    for scale, k in zip(script.SCALES, failures, strict=True):
        stored(script, path, np.where(np.arange(150) < k, 2, 0), scale)
    found = figures(script.scaled_rows(script.State(path, {"seed": 1}), CAMPAIGN, "m"))
    estimate = scaled_sigma(script.SCALES, failures, [150] * 6)
    assert estimate.probability is not None
    assert found["scaled.percent"].ours == pytest.approx(100 * (1 - estimate.probability))
    assert found["scaled.sigma_x2.5.failing_percent"].ours == pytest.approx(4.0)
