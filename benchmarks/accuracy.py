"""What a finished run measured: the accuracy ladder, and proxy against ngspice beside the limits of the design notes.

Reads the files of ``analog-deq run``; simulates nothing. Accuracies are in % of the test images with their 95 %
Wilson interval in ``spread``. The limits are fixed here, whatever limits file the run was judged by.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import Row, Span, machine_name, parser, show, value_row

from analog_deq.errors import SchemaError
from analog_deq.statistics import clopper_pearson_lower
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.train.stage import OURS
from analog_deq.train.tasks import Score
from analog_deq.verify.verdict import Check, VerifyReport

PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure of report.json under the name of its row. ``bar`` is the most it may be, None for a figure to know.

    ``off`` is subtracted and the sign dropped, for what must stay near a value.
    """

    check: str
    row: str
    bar: float | None = None
    off: float | None = None


LIMITS = (
    Limit("net.fixed_point_err", "fixed_point_rms_percent_fs", 0.2),
    Limit("net.fixed_point_p90", "fixed_point_p90_percent_fs"),
    Limit("net.fixed_point_max", "fixed_point_max_percent_fs", 0.5),
    Limit("net.residual", "residual_percent_fs"),
    Limit("net.anchor_err", "reduced_against_flat_percent_fs"),
    Limit("net.die_fixed_point_err", "die_fixed_point_rms_percent_fs", 0.3),
    Limit("fit.residual_max", "activation_held_out_percent_fs", 0.1),
    Limit("net.settle_err", "settling_time_error_percent", 5.0),
    Limit("net.settle_p95", "settling_time_p95_s"),
    Limit("net.noise_ratio", "noise_ratio"),
    Limit("net.noise_ratio", "noise_ratio_distance_from_1", 0.1, off=1.0),
    Limit("net.energy", "energy_j"),
)
AGREEMENT_MISS = 2.0
"""Most percent of labels that may differ, at 95 % confidence: an agreement of at least 98 %."""
LABEL_IMAGES = 200


def ladder_rows(machine: str, scores: Mapping[str, Score]) -> Iterator[Row]:
    """Test accuracy (of a regression, relative error) of every method in software, ours last."""
    for name in sorted(scores, key=lambda method: method == OURS):
        score = scores[name]
        yield value_row(f"accuracy.software.{slug(name)}_percent", machine, PERCENT * score.value, score.n,
                        interval=_percent((score.low, score.high)))  # fmt: skip


def spice_rows(machine: str, checks: Mapping[str, Check]) -> Iterator[Row]:
    """Accuracy of the network in ngspice, and how often its label is software's.

    The agreement is held to its exact lower bound: the row shows the largest share of differing labels that 95 %
    confidence leaves, and its bar stands only on enough images.
    """
    check = checks.get("net.accuracy")
    if check is not None and check.value is not None:
        yield value_row("accuracy.ngspice.ours_percent", machine, check.value, check.n, interval=check.interval)
    check = checks.get("net.acc_drop")
    if check is not None and check.value is not None:
        yield value_row("accuracy.ngspice.drop_from_software_points", machine, check.value, check.n,
                        interval=check.interval)  # fmt: skip
    check = checks.get("net.class_agreement")
    if check is not None and check.value is not None:
        agree = round(check.value * check.n / PERCENT)
        differing = PERCENT * (1 - clopper_pearson_lower(agree, check.n))
        bar = AGREEMENT_MISS if check.n >= LABEL_IMAGES else None
        yield value_row("accuracy.ngspice.labels_agreeing_percent", machine, check.value, check.n)
        yield value_row("accuracy.ngspice.labels_differing_upper_bound_percent", machine, differing, check.n, bar=bar)


def figure_rows(machine: str, checks: Mapping[str, Check]) -> Iterator[Row]:
    """Fixed points, settling, noise and fits beside their limits. A figure that was not measured has no row."""
    for limit in LIMITS:
        check = checks.get(limit.check)
        if check is None or check.value is None:
            continue
        value, interval = check.value, check.interval
        if limit.off is not None:
            value, interval = abs(value - limit.off), None
        yield value_row(f"accuracy.proxy.{limit.row}", machine, value, check.n, bar=limit.bar, interval=interval)


def slug(name: str) -> str:
    """A method's name as part of an id.

    >>> slug("naive + refitted readout")
    'naive_refitted_readout'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def read_report(path: Path) -> tuple[Mapping[str, Check], Mapping[str, Any]]:
    """Checks by id and provenance of a report.json; SchemaError when it is none."""
    try:
        report = VerifyReport.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise SchemaError(
            f"{path}: not a readable report.json ({error}); give the one analog-deq verify wrote"
        ) from error
    return {check.id: check for check in report.checks}, report.provenance


def _percent(interval: Span) -> Span:
    return PERCENT * interval[0], PERCENT * interval[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(
        __doc__ or "", "python benchmarks/accuracy.py --report out/report.json --checkpoint out/net.safetensors"
    )
    made.add_argument("--report", type=Path, required=True, help="report.json of verify")
    made.add_argument("--checkpoint", type=Path, required=True, help="net.safetensors of train")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        checks, provenance = read_report(options.report)
        checkpoint = read_checkpoint(options.checkpoint)
        machine = f"{machine_name()}, ngspice {provenance.get('ngspice_version')} {provenance.get('solver')}"
        yield from ladder_rows(machine, checkpoint.scores)
        yield from spice_rows(machine, checks)
        yield from figure_rows(machine, checks)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
