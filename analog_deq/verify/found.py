"""What a check of the sheet hands back: measurements to be judged, and what the report shows beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analog_deq.records import Deck

if TYPE_CHECKING:
    from analog_deq.verify.signoff import Measurement


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the report for people: texts only, as they are to be read. ``text`` introduces it."""

    name: str
    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"section {self.name}: a row has not the {len(self.columns)} cells of its columns")

    def to_dict(self) -> dict[str, Any]:
        """The section in JSON's own types."""
        return {
            "name": self.name, "title": self.title, "text": self.text, "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Section:
        """The section in ``data``; KeyError or ValueError when it is not one."""
        rows = tuple(tuple(row) for row in data["rows"])
        return cls(data["name"], data["title"], data["text"], tuple(data["columns"]), rows)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the report: inline SVG in the page's own style, or None with the reason in ``caption``."""

    name: str
    title: str
    svg: str | None
    caption: str


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found.

    ``tables`` (NAME -> frame) become NAME.csv beside the report: SI units, every simulated sample, a failed one too,
    with its status. ``simulated`` and ``failed`` count samples that go into ``run.failed``. ``decks`` are standalone
    decks of worst samples that no other deck simulates, by the name that their measurement's ``worst`` has as ``deck``.
    """

    measurements: tuple[Measurement, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    simulated: int = 0
    failed: int = 0
    decks: Mapping[str, Deck] = field(default_factory=dict)
