"""The limits file: what a sign-off demands, as people write it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from analog_deq.spec import read_toml, validate

Judge = Literal["value", "interval", "yield"]
Severity = Literal["error", "warn", "info"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Waiver(_Frozen):
    """Why a missed limit does not stop the sign-off, and who says so. Shown in every report."""

    reason: Text
    by: Text


class LimitCheck(_Frozen):
    """One row of the spec sheet.

    ``judge`` says what is compared with the limits: the ``value``, the whole confidence ``interval``, or the exact
    one-sided bound of a ``yield`` (a percentage of ``n`` samples). ``failed_samples`` says what a sample without a
    valid result does: ``fail`` the check, or be ``counted`` among the samples as one that does not pass.
    An ``info`` check is reported beside its limits and never judged.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")]
    quantity: Text
    unit: str
    min: Finite | None = None
    max: Finite | None = None
    judge: Judge = "value"
    severity: Severity = "error"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    failed_samples: Literal["fail", "counted"] | None = None
    waiver: Waiver | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LimitCheck:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.id}: min ({self.min}) exceeds max ({self.max}); swap them")
        if self.severity != "info" and self.min is None and self.max is None:
            raise ValueError(f'{self.id}: severity "{self.severity}" needs min or max; add one, or write "info"')
        if self.judge == "yield":
            if self.unit != "%" or self.min is None or self.max is not None:
                raise ValueError(f'{self.id}: judge "yield" needs unit "%", a min and no max')
            if self.severity != "info" and not 0 < self.min < 100:
                raise ValueError(f"{self.id}: min is {self.min} %; no finite sample proves 100 %, write less")
        return self

    @property
    def failed_sample_fails(self) -> bool:
        """Whether one invalid sample fails the check; by default it does, except in a yield, which counts it."""
        if self.failed_samples is None:
            return self.judge != "yield"
        return self.failed_samples == "fail"


class Limits(_Frozen):
    """A whole spec sheet. Read with :func:`read_limits`."""

    schema_: Literal[1] = Field(alias="schema")
    check: tuple[LimitCheck, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Limits:
        twice = [name for name, count in Counter(c.id for c in self.check).items() if count > 1]
        if twice:
            raise ValueError(f"check id {twice[0]!r} appears more than once; keep one")
        return self


def read_limits(path: Path) -> Limits:
    """Limits in a TOML file. SpecError names file, key, value and mend; an unknown key is an error."""
    return validate(Limits, read_toml(path), path)
