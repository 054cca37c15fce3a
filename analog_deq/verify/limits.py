"""The limits file: what a sign-off demands, as people write it."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from analog_deq.spec import read_toml, validate

Judge = Literal["each", "interval", "yield"]
Severity = Literal["error", "warn", "info"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Waiver(_Frozen):
    """Why a missed limit does not stop the sign-off, who says so, and until when. Shown in every report.

    ``expires`` is the last day on which it counts.
    """

    reason: Text
    by: Text
    expires: date

    def holds(self, today: date) -> bool:
        """Whether it still counts on the day ``today``."""
        return today <= self.expires


class LimitCheck(_Frozen):
    """One row of the spec sheet.

    ``judge`` says what is compared with the limits: ``each`` value, at every corner the row asks for, the whole
    confidence ``interval``, or the exact one-sided bound of a ``yield`` (a percentage of ``n`` samples).
    ``failed_samples`` says what a sample without a valid result does: ``fail`` the check, or be ``counted`` among the
    samples as one that does not pass. ``typ`` is what the designer expects, shown and not judged. ``corners`` are those
    that are held to the limits: ``all`` that were simulated, the ``typical`` one, or names. An ``info`` check, and a
    row without limits, is reported and never judged.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")]
    quantity: Text
    unit: str
    min: Finite | None = None
    typ: Finite | None = None
    max: Finite | None = None
    judge: Judge = "each"
    corners: Literal["all", "typical"] | Annotated[tuple[Text, ...], Field(min_length=1)] = "all"
    severity: Severity = "error"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    failed_samples: Literal["fail", "counted"] | None = None
    waiver: Waiver | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LimitCheck:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.id}: min ({self.min}) exceeds max ({self.max}); swap them")
        if self.typ is not None and not self._allows(self.typ):
            raise ValueError(f"{self.id}: typ ({self.typ}) lies outside min and max; what is expected must be allowed")
        if "severity" in self.model_fields_set and self.severity != "info" and not self.limited:
            raise ValueError(f'{self.id}: severity "{self.severity}" needs min or max; add one, or leave it out')
        if self.judge == "yield":
            if self.unit != "%" or self.min is None or self.max is not None:
                raise ValueError(f'{self.id}: judge "yield" needs unit "%", a min and no max')
            if self.severity != "info" and not 0 < self.min < 100:
                raise ValueError(f"{self.id}: min is {self.min} %; no finite sample proves 100 %, write less")
        return self

    @property
    def limited(self) -> bool:
        """Whether it has a limit; a row without one is reported, not judged."""
        return self.min is not None or self.max is not None

    @property
    def judged(self) -> bool:
        """Whether it is held to its limits."""
        return self.limited and self.severity != "info"

    def _allows(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    @property
    def failed_sample_fails(self) -> bool:
        """Whether one invalid sample fails the check; by default it does, except in a yield, which counts it."""
        if self.failed_samples is None:
            return self.judge != "yield"
        return self.failed_samples == "fail"


class Campaign(_Frozen):
    """Where the checks that look at corners simulate.

    ``corners`` is ``typ``, ``quick``, ``full`` or names such as ``ss_m40C_1p62V``; ``corner_images`` test images are
    settled at each, on the nominal circuit and on ``corner_dies`` mismatch dies. With ``stop_early`` no further
    mismatch dies are drawn once the yield rows are decided (:mod:`analog_deq.verify.stopping`).
    """

    corners: Literal["typ", "quick", "full"] | Annotated[tuple[Text, ...], Field(min_length=1)] = "typ"
    corner_images: Annotated[int, Field(ge=1)] = 50
    corner_dies: Annotated[int, Field(ge=0)] = 0
    stop_early: bool = False


class Limits(_Frozen):
    """A whole spec sheet. Read with :func:`read_limits`."""

    schema_: Literal[1] = Field(alias="schema")
    campaign: Campaign = Campaign()
    check: tuple[LimitCheck, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Limits:
        twice = [name for name, count in Counter(c.id for c in self.check).items() if count > 1]
        if twice:
            raise ValueError(f"check id {twice[0]!r} appears more than once; keep one")
        return self

    def row(self, name: str) -> LimitCheck | None:
        """The row of one check; None when the sheet does not list it."""
        return next((check for check in self.check if check.id == name), None)

    def expired(self, today: date) -> tuple[str, ...]:
        """Ids of the rows whose waiver no longer counts on the day ``today``."""
        return tuple(check.id for check in self.check if check.waiver is not None and not check.waiver.holds(today))


def read_limits(path: Path) -> Limits:
    """Limits in a TOML file. SpecError names file, key, value and mend; an unknown key is an error."""
    return validate(Limits, read_toml(path), path)
