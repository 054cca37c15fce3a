"""Decks that run alone: each beside what it gave when the report was made, and run again to the same digits.

``decks/NAME/deck.cir`` with the cells beside it needs nothing but ngspice; ``replay.json`` holds the values read from
its plots. A sample alone is solved from another start than in the campaign's sweep, so its last digits are its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from analog_deq.errors import SchemaError
from analog_deq.provenance import require_schema
from analog_deq.records import Deck, ExpectedPlot, Progress
from analog_deq.spice.execution import Outcome
from analog_deq.verify.alone_values import Sample, off_mirror, values_of
from analog_deq.verify.replay import Replay, run_line, write_deck
from analog_deq.verify.sweeps import Bed

SCHEMA = "analog_deq.replay/1"
RECORD, DECK = "replay.json", "deck.cir"


@dataclass(frozen=True, slots=True)
class AloneRecord:
    """What a deck gave: ``values`` as printed, by name, none when ``status`` is not ok. ``deck`` is it as it lies."""

    sample: Sample
    mirrored: bool
    status: str
    values: dict[str, str]
    deck: Deck


def write_alone(
    samples: Sequence[Sample], own: Mapping[str, Deck], writer: Replay, bed: Bed, progress: Progress, folder: Path
) -> None:
    """Decks of the samples under ``folder/decks``, each with what it gives.

    ``own`` holds decks that a check printed itself, by the samples' ``kind``. A deck that cannot be simulated is
    written with the reason as its status.
    """
    decks = [own[s.kind] if s.kind in own else _deck(writer, s) for s in samples]
    outcomes = bed.run(decks, progress)
    for sample, deck, outcome in zip(samples, decks, outcomes, strict=True):
        mirrored = True
        if outcome.run is not None and sample.kind not in own and off_mirror(writer, sample, outcome.run.plots):
            mirrored, deck = False, _deck(writer, sample, mirrored=False)
            outcome = bed.run([deck], progress)[0]
        place = folder / "decks" / sample.name
        write_deck(deck, place / DECK)
        content = {
            "schema": SCHEMA, "sample": asdict(sample), "mirrored": mirrored, "status": outcome.status,
            "values": _values(writer, sample, outcome, mirrored), "run": run_line(deck, DECK),
            "simulator": f"ngspice {bed.simulator.version} ({bed.simulator.solver})",
            "deck": {
                "sha256": deck.sha256, "plots": [asdict(plot) for plot in deck.plots], "bound": deck.bound,
                "files": [name for name, _ in deck.files], "arguments": list(deck.arguments),
            },
        }  # fmt: skip
        (place / RECORD).write_text(json.dumps(content, indent=1) + "\n")


def read_alone(place: Path) -> AloneRecord:
    """What :func:`write_alone` recorded in a deck's folder, and the deck.

    SchemaError when something is missing or malformed, or the deck or a cell beside it was altered.
    """
    path = place / RECORD
    try:
        content = json.loads(path.read_text())
        require_schema(content.get("schema"), SCHEMA, path)
        given, told = content["sample"], content["deck"]
        currents = {k: None if given[k] is None else tuple(map(float, given[k])) for k in ("trim_a", "rest_z")}
        sample = Sample(**{**given, **currents})
        values = {str(name): str(value) for name, value in content["values"].items()}
        plots = tuple(ExpectedPlot(**plot) for plot in told["plots"])
        names, arguments = [str(name) for name in told["files"]], tuple(map(str, told["arguments"]))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file outside its folder")
        files = tuple((name, (place / name).read_text()) for name in names)
        deck = Deck((place / DECK).read_text(), plots, files, float(told["bound"]), arguments)
        record = AloneRecord(sample, bool(content["mirrored"]), content["status"], values, deck)
        recorded = told["sha256"]
    except FileNotFoundError as error:
        raise SchemaError(f"{error.filename}: missing; give a sign-off, or a whole folder of its decks/") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"{path}: not readable ({error!r}); run verify again") from error
    if deck.sha256 != recorded:
        raise SchemaError(f"{place / DECK}: the deck or a cell beside it was altered; run it by hand, or verify again")
    return record


def run_alone(record: AloneRecord, writer: Replay, bed: Bed, progress: Progress) -> tuple[str, dict[str, str]]:
    """Status and values of a recorded deck, simulated now."""
    outcome = bed.run([record.deck], progress)[0]
    return outcome.status, _values(writer, record.sample, outcome, record.mirrored)


def _deck(writer: Replay, sample: Sample, *, mirrored: bool = True) -> Deck:
    return writer.deck(sample.kind, sample.test_image, sample.die, sample.trim, sample.corner, mirrored=mirrored)


def _values(writer: Replay, sample: Sample, outcome: Outcome, mirrored: bool) -> dict[str, str]:
    """The deck's figures as they are printed; none without a valid run."""
    if outcome.run is None:
        return {}
    found = values_of(writer, sample, outcome.run.plots, mirrored=mirrored)
    return {name: f"{value:.9g}" for name, value in found.items()}
