"""The schema of ``report.json``: every field with its meaning, checked when a report is read.

The one place that says what a report holds: docs/report.schema.json and docs/report.md are written from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analog_deq.errors import SchemaError
from analog_deq.verify.limits import Judge, Severity

SCHEMA = "analog_deq.verify_report/2"
MOST_ERRORS = 5
"""Wrong entries that a message names; the rest are counted."""

Status = Literal["pass", "fail", "inconclusive", "info", "not_measured", "not_modelled"]
Verdict = Literal["pass", "fail", "inconclusive"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Object(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LimitFields(_Object):
    """What the limits file asks of a check, in the check's unit."""

    min: Number | None = Field(description="smallest allowed value; null: no limit")
    typ: Number | None = Field(description="what the designer expects; shown, not judged")
    max: Number | None = Field(description="largest allowed value; null: no limit")


class WorstFields(_Object):
    """The sample that decides a check."""

    condition: str = Field(description="in words: nominal or which die, from which start, at which corner")
    corner: str = Field(description="name of its corner, such as ss_m40C_1p62V; empty: the typical one")
    die: Count | None = Field(description="mismatch die, from 0; null: the nominal circuit, or none")
    input: Count | None = Field(description="test image or sample, from 0; null: no single one")
    deck: str = Field(description="path of its deck that runs alone, from the report's folder; empty: none")


class CheckFields(_Object):
    """One row of the sheet."""

    id: str = Field(min_length=1, description="name of the check, such as net.accuracy; stable between versions")
    quantity: str = Field(description="what is measured, for people")
    value: Number | None = Field(
        description="the measured value in unit, at the typical corner; null: no valid measurement"
    )
    unit: str = Field(description="unit of value, limit, margin, interval and by_corner; %FS is of one unit of state")
    limit: LimitFields = Field(description="what the limits file asks")
    margin: Number | None = Field(
        description="distance in unit to the nearest limit, negative outside: of worst_corner, of the interval's "
        "nearer end, or of a yield's bound, by judge; null: not judged"
    )
    n: Count = Field(description="samples tried, valid or not")
    failed_samples: Count = Field(description="of these, the samples without a valid result")
    interval: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        description="confidence interval in unit, low then high; the bounds of a yield; null: none"
    )
    status: Status = Field(
        description="pass, fail, inconclusive (too few samples for the claim), info (not judged), not_measured, or "
        "not_modelled (the cells do not show it)"
    )
    severity: Severity = Field(description="error: decides the verdict; warn: shown; info: not judged")
    judge: Judge = Field(
        description="what is held to the limits: each value at each corner, the whole interval, or the exact one-sided "
        "bound of a yield"
    )
    detail: str = Field(description="reasons and circumstances, for people")
    waived: str = Field(description="text of a waiver that holds: the check no longer decides; empty: none")
    lapsed: str = Field(description="text of a waiver that has expired and no longer counts; empty: none")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(description="confidence of a yield's bound")
    by_corner: dict[str, Number | None] = Field(
        description="value in unit at each simulated corner, the typical one first; null: it failed there"
    )
    worst_corner: str = Field(description="corner with the smallest margin; empty: none, or no limit")
    worst: WorstFields | None = Field(description="the sample that decides it; null: a figure over all samples")
    replay: str = Field(
        description="command that simulates worst again and compares its digits, in the report's folder; empty: none"
    )


class SectionFields(_Object):
    """A table of the report for people: texts only."""

    name: str = Field(description="name, unique in the report")
    title: str = Field(description="heading")
    text: str = Field(description="what introduces it")
    columns: list[str] = Field(description="headings of the columns")
    rows: list[list[str]] = Field(description="texts, one for each column")


class ProvenanceFields(BaseModel):
    """What the report was made from and by. Further entries may stand beside these."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    schema_name: str = Field("", description="analog_deq.verify_report")
    schema_version: int = Field(0, description="the number in schema")
    package_version: str = Field("", description="version of analog-deq")
    ngspice_version: str = Field("", description="version of ngspice")
    solver: str = Field("", description="its linear solver: klu or sparse")
    seed: int | None = Field(None, description="the design's seed, from which dies, images and intervals are drawn")
    inputs: dict[str, str] = Field({}, description="sha256 of hardware, checkpoint, proxy, limits and of each cell")


class ReportFile(_Object):
    """report.json: the machine-readable truth of a sign-off. SI units unless a unit is given beside a value."""

    schema_: Literal["analog_deq.verify_report/2"] = Field(
        alias="schema", description="name and version; a reader refuses another number"
    )
    verdict: Verdict = Field(
        description="the most severe status of the checks that decide (severity error, not waived): the exit code of "
        "verify is 0, 1 or 4 for pass, fail, inconclusive"
    )
    title: str = Field(description="title of the report")
    design: str = Field(description="name of the design")
    summary: dict[str, Any] = Field(description="headline facts for people, by label")
    checks: list[CheckFields] = Field(description="the sheet: rows of the limits file in its order, then the others")
    sections: list[SectionFields] = Field(description="further tables of the report")
    tables: list[str] = Field(description="names of the CSV tables beside the report, without .csv")
    provenance: ProvenanceFields = Field(description="what it was made from and by")


def require_report(data: Mapping[str, Any]) -> None:
    """Nothing, when ``data`` has every field of the schema and no other; else a SchemaError that names the wrong ones.

    >>> require_report({"schema": "analog_deq.verify_report/1"})
    Traceback (most recent call last):
    ...
    analog_deq.errors.SchemaError: schema is 'analog_deq.verify_report/1', this version reads \
'analog_deq.verify_report/2'; verify again
    """
    found = data.get("schema") if isinstance(data, Mapping) else None
    if found != SCHEMA:
        raise SchemaError(f"schema is {found!r}, this version reads {SCHEMA!r}; verify again")
    try:
        ReportFile.model_validate(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        told = [f"{_place(data, e['loc'])}: {_problem(e)}" for e in wrong[:MOST_ERRORS]]
        more = f"; and {len(wrong) - MOST_ERRORS} more" if len(wrong) > MOST_ERRORS else ""
        raise SchemaError(f"{'; '.join(told)}{more}; the file was edited or truncated, verify again") from error


def _place(data: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """A place such as ``checks[net.accuracy].limit.min``: a check by its id, as people know it."""
    text, here = "", data
    for part in location:
        try:
            here = here[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            here = {}
        if isinstance(part, int):
            name = here.get("id") or here.get("name") if isinstance(here, Mapping) else None
            text += f"[{name or part}]"
        else:
            text += f".{part}" if text else part
    return text or "(the whole file)"


def _problem(error: Any) -> str:
    if error["type"] == "missing":
        return "missing"
    if error["type"] == "extra_forbidden":
        return "unknown entry"
    value = repr(error["input"])
    return f"{value if len(value) <= 60 else value[:57] + '...'}: {error['msg']}"
