"""Confidence statements for sign-off: shares, paired drops, quantiles, means, spreads, tolerance bounds.

Every function takes plain arrays and returns plain numbers or a small frozen record. Randomness enters only through
a ``numpy.random.Generator`` handed in. Bad input raises ValueError; a statement that the sample is too small to make
comes back as None, never as a number. docs/statistics.md says how often each interval holds, by simulation.
"""

from analog_deq.statistics.moments import mean_interval, rms_increase, rms_interval, sd_interval
from analog_deq.statistics.normal import (
    Capability,
    Normality,
    Side,
    ToleranceBound,
    capability,
    normality,
    tolerance_bound,
    tolerance_factor,
)
from analog_deq.statistics.paired import PairedDrop, paired_drop
from analog_deq.statistics.quantiles import quantile_interval, quantile_upper_bound, samples_for_quantile
from analog_deq.statistics.rare import (
    RareEstimate,
    failure_shift,
    importance_sampling,
    scaled_sigma,
    shifted_normals,
)
from analog_deq.statistics.samples import Interval
from analog_deq.statistics.sequential import SequentialPlan, SequentialResult, sequential_dies_needed
from analog_deq.statistics.shares import (
    clopper_pearson,
    clopper_pearson_lower,
    clopper_pearson_upper,
    dies_needed,
    wilson,
)

__all__ = [
    "Capability",
    "Interval",
    "Normality",
    "PairedDrop",
    "RareEstimate",
    "SequentialPlan",
    "SequentialResult",
    "Side",
    "ToleranceBound",
    "capability",
    "clopper_pearson",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "dies_needed",
    "failure_shift",
    "importance_sampling",
    "mean_interval",
    "normality",
    "paired_drop",
    "quantile_interval",
    "quantile_upper_bound",
    "rms_increase",
    "rms_interval",
    "samples_for_quantile",
    "scaled_sigma",
    "sd_interval",
    "sequential_dies_needed",
    "shifted_normals",
    "tolerance_bound",
    "tolerance_factor",
    "wilson",
]
