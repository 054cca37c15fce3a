"""Two sign-offs sample by sample: the same image on the same die in both, so that what they share cancels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.draws import Stream, generator
from analog_deq.records import OK
from analog_deq.statistics import Interval, mean_interval, paired_drop

KEY = ("die", "trim", "image")
PERCENT = 100.0
DIE_INPUTS = ("hardware",)
"""Inputs that must be the same for die k to be the same die on both sides, beside the seed."""
DRAW = 10**4
"""Index of the generator that resamples dies here; a sign-off's own statistics use the small ones."""


@dataclass(frozen=True, slots=True)
class Paired:
    """One group of samples that both sides simulated.

    Of a classification: ``lost`` and ``gained`` count the samples that only a, or only b, got right; ``change`` is the
    accuracy of b minus that of a in points, ``p_value`` McNemar's exact test. Of a regression: ``change`` is the mean
    change of the relative error in per cent, without counts and test.
    """

    group: str
    quantity: str
    unit: str
    n: int
    change: float
    interval: Interval | None
    method: str
    lost: int | None = None
    gained: int | None = None
    p_value: float | None = None

    @property
    def beyond(self) -> bool:
        """Whether the interval of the change leaves out no change."""
        return self.interval is not None and not self.interval[0] <= 0.0 <= self.interval[1]


def pair_samples(
    a: pd.DataFrame, b: pd.DataFrame, provenance_a: Mapping[str, Any], provenance_b: Mapping[str, Any]
) -> tuple[tuple[Paired, ...], str]:
    """What changed on samples that both sides have, by group, and in words what could not be paired.

    ``a`` and ``b`` are ``samples.csv`` tables. Images are the same when seed and labels are; dies when the hardware
    is too, since both are drawn from the seed.
    """
    if provenance_a.get("seed") != provenance_b.get("seed"):
        return (), "not paired: the seeds differ, so image and die numbers mean other samples"
    key = [name for name in KEY if name in a and name in b]
    both = a.merge(b, on=key, suffixes=("_a", "_b"))
    if not len(both):
        return (), "not paired: no sample is in both"
    if "label_a" in both and (both["label_a"] != both["label_b"]).any():
        return (), "not paired: the same image numbers have other labels, so the tasks differ"
    why = ""
    if any(provenance_a.get("inputs", {}).get(k) != provenance_b.get("inputs", {}).get(k) for k in DIE_INPUTS):
        why = "dies not paired: the hardware differs, so the same number is not the same die"
        both = both[both["die"] < 0]
    seed = int(provenance_a.get("seed") or 0)
    trims = both["trim"] if "trim" in both else pd.Series("none", index=both.index)
    groups = {
        "nominal circuit": both["die"] < 0,
        "dies, untrimmed": (both["die"] >= 0) & (trims == "none"),
        "dies, trimmed": (both["die"] >= 0) & (trims != "none"),
    }
    found = [
        _pair(name, both[at], generator(seed, Stream.STATISTICS, DRAW + k))
        for k, (name, at) in enumerate(groups.items())
        if at.any()
    ]
    return tuple(pair for pair in found if pair is not None), why


def _pair(group: str, both: pd.DataFrame, rng: np.random.Generator) -> Paired | None:
    dies = both["die"].to_numpy()
    if "label_a" in both:
        right_a, right_b = ((both[f"predicted_{s}"] == both[f"label_{s}"]).to_numpy() for s in ("a", "b"))
        clusters = dies if len(np.unique(dies)) > 1 else None
        drop = paired_drop(right_a, right_b, die=clusters, generator=rng)
        low, high = drop.interval
        return Paired(
            group, "accuracy", "points", drop.n, -PERCENT * drop.drop, (-PERCENT * high, -PERCENT * low),
            f"{drop.method}; McNemar", drop.a_only, drop.b_only, drop.p_value,
        )  # fmt: skip
    valid = both[(both["status_a"] == OK) & (both["status_b"] == OK)]
    name = "relative_error_percent"
    if f"{name}_a" not in both or not len(valid):
        return None
    change = (valid[f"{name}_b"] - valid[f"{name}_a"]).to_numpy()
    if len(np.unique(dies)) > 1:  # samples are nested in dies: a die is the unit
        change = pd.Series(change).groupby(valid["die"].to_numpy()).mean().to_numpy()
    interval = mean_interval(change) if len(change) > 1 else None
    return Paired(group, "relative error", "%", len(valid), float(change.mean()), interval, "paired mean, Student t")
