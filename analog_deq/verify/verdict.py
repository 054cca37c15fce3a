"""The record of a sign-off: judged checks, the verdict over them, and ``report.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from analog_deq.errors import EXIT_INCONCLUSIVE, EXIT_PASS, EXIT_SIGNOFF_FAILED, SchemaError
from analog_deq.statistics import Interval
from analog_deq.verify.found import Section
from analog_deq.verify.limits import Judge, Severity
from analog_deq.verify.report_schema import SCHEMA as SCHEMA
from analog_deq.verify.report_schema import Status as Status
from analog_deq.verify.report_schema import Verdict as Verdict
from analog_deq.verify.report_schema import require_report


@dataclass(frozen=True, slots=True)
class Worst:
    """The sample that decides a check, and the command that simulates it again. No ``corner``: the typical one.

    ``deck`` is the kind of deck that simulates it (``equilibrium``, ``transient``, ``noise``), or empty when none does;
    in a report the path of the deck itself.
    """

    condition: str = ""
    die: int | None = None
    input: int | None = None
    deck: str = ""
    replay: str = ""
    corner: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A judged row. ``margin`` is the distance to the nearest limit in ``unit``, negative outside.

    ``by_corner`` has the value at each corner that was simulated, None where that failed; ``value`` is then the typical
    corner's, and ``margin`` that of ``worst_corner``. ``waived`` has the text of a waiver that holds, ``lapsed``
    of one that has expired. ``confidence`` is that of a yield's bound.
    """

    id: str
    quantity: str
    unit: str
    value: float | None
    min: float | None
    max: float | None
    n: int
    interval: Interval | None
    status: Status
    margin: float | None
    detail: str
    severity: Severity
    judge: Judge
    worst: Worst | None = None
    failed_samples: int = 0
    waived: str = ""
    typ: float | None = None
    by_corner: Mapping[str, float | None] = field(default_factory=dict)
    worst_corner: str = ""
    lapsed: str = ""
    confidence: float = 0.95

    @property
    def decides(self) -> bool:
        """Whether this row can hold back the verdict."""
        return self.severity == "error" and not self.waived


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Everything a sign-off states. ``summary`` holds headline facts by their label, in order.

    ``sections`` are tables that checks add for people, ``tables`` the names of the CSV files beside the report.
    """

    checks: tuple[Check, ...]
    provenance: Mapping[str, Any]
    title: str
    design: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    tables: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The most severe status of the checks that decide; with none judged, inconclusive.

        What the cells do not model cannot be shown, so a check that decides on it is at best inconclusive.
        """
        statuses = {check.status for check in self.checks if check.decides}
        if "fail" in statuses:
            return "fail"
        # A report that judged nothing proves nothing.
        judged = {check.status for check in self.checks} & {"pass", "fail", "inconclusive"}
        return "inconclusive" if statuses & {"inconclusive", "not_modelled"} or not judged else "pass"

    def exit_code(self) -> int:
        """0 pass, 1 fail, 4 inconclusive."""
        codes = {"pass": EXIT_PASS, "fail": EXIT_SIGNOFF_FAILED, "inconclusive": EXIT_INCONCLUSIVE}
        return codes[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data, schema ``analog_deq.verify_report/2``; what is not finite becomes None."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "title": self.title,
            "design": self.design,
            "summary": _plain(self.summary, "summary"),
            "checks": [_check_to_dict(check) for check in self.checks],
            "sections": [section.to_dict() for section in self.sections],
            "tables": list(self.tables),
            "provenance": _plain(self.provenance, "provenance"),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VerifyReport:
        """The report in ``data``. SchemaError for what the schema refuses, or a verdict its checks contradict."""
        require_report(data)
        try:
            checks = tuple(_check_from_dict(row) for row in data["checks"])
            sections = tuple(Section.from_dict(section) for section in data["sections"])
            report = cls(
                checks, data["provenance"], data["title"], data["design"], data["summary"], sections,
                tuple(data["tables"]),
            )  # fmt: skip
            stored = data["verdict"]
        except (KeyError, TypeError, ValueError) as error:
            raise SchemaError(f"report: missing or malformed entry ({error!r}); verify again") from error
        if stored != report.verdict:
            raise SchemaError(f"report: says {stored!r} but its checks say {report.verdict!r}; the file was altered")
        return report


def _check_to_dict(check: Check) -> dict[str, Any]:
    worst = check.worst
    return {
        "id": check.id,
        "quantity": check.quantity,
        "value": check.value,
        "unit": check.unit,
        "limit": {"min": check.min, "typ": check.typ, "max": check.max},
        "margin": _plain(check.margin, check.id),
        "n": check.n,
        "failed_samples": check.failed_samples,
        "interval": None if check.interval is None else list(check.interval),
        "status": check.status,
        "severity": check.severity,
        "judge": check.judge,
        "detail": check.detail,
        "waived": check.waived,
        "lapsed": check.lapsed,
        "confidence": check.confidence,
        "by_corner": _plain(check.by_corner, check.id),
        "worst_corner": check.worst_corner,
        "worst": None
        if worst is None
        else {
            "condition": worst.condition,
            "corner": worst.corner,
            "die": worst.die,
            "input": worst.input,
            "deck": worst.deck,
        },
        "replay": "" if worst is None else worst.replay,
    }


def _check_from_dict(row: Mapping[str, Any]) -> Check:
    return Check(
        id=row["id"], quantity=row["quantity"], unit=row["unit"], value=row["value"],
        min=row["limit"]["min"], max=row["limit"]["max"], n=row["n"],
        interval=None if row["interval"] is None else (row["interval"][0], row["interval"][1]),
        status=row["status"], margin=row["margin"], detail=row["detail"], severity=row["severity"],
        judge=row["judge"], worst=None if row["worst"] is None else Worst(**row["worst"], replay=row["replay"]),
        failed_samples=row["failed_samples"], waived=row["waived"], typ=row["limit"]["typ"],
        by_corner=row["by_corner"], worst_corner=row["worst_corner"], lapsed=row["lapsed"],
        confidence=row["confidence"],
    )  # fmt: skip


def _plain(value: Any, where: str) -> Any:
    """``value`` in JSON's own types. ValueError names the place of anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item, where) for item in value]
    raise ValueError(f"{where}: {type(value).__name__} does not belong in a report; write text or numbers")
