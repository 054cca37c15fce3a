"""Samples of a sign-off simulated again, without any kept run, and compared to their recorded digits.

A row of ``samples.csv`` in the sweep it was part of; a deck under ``decks/`` by itself.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analog_deq.errors import SchemaError, SpecError
from analog_deq.mappings.campaign import samples_again
from analog_deq.pipeline.family_files import FamilyInputs, matching_family_checkpoint, read_family_proxy
from analog_deq.pipeline.finished import CORNERS, SAMPLES, read_report, sample_texts
from analog_deq.pipeline.inputs import Inputs, matching_checkpoint, matching_proxy
from analog_deq.pipeline.kept import Kept, read_kept
from analog_deq.records import Progress
from analog_deq.spice.process import limits_of
from analog_deq.spice.simulator import find_simulator
from analog_deq.verify.again import TRIMMED, Again
from analog_deq.verify.alone import RECORD, read_alone, run_alone
from analog_deq.verify.outputs import csv_text
from analog_deq.verify.replay import Replay, read_trim
from analog_deq.verify.sweeps import Bed

TIMEOUT_S = 300.0
PLACE = ("corner", "die", "trim", "image")
"""Columns that say which sample a row is; the others are what it gave."""


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """One sample: what was recorded and what came out again, as printed.

    ``row`` is its number in ``samples.csv``, from 0; None for a deck that ran alone.
    """

    row: int | None
    place: dict[str, str]
    recorded: dict[str, str]
    replayed: dict[str, str]

    @property
    def same(self) -> bool:
        """Whether every column has the recorded digits."""
        return self.recorded == self.replayed


@dataclass(frozen=True, slots=True)
class Replayed:
    """All rows asked for, and by which simulators they were recorded and replayed."""

    folder: Path
    rows: tuple[ReplayedRow, ...]
    recorded_by: str
    replayed_by: str

    @property
    def same(self) -> bool:
        """Whether every row came out as recorded."""
        return all(row.same for row in self.rows)


def rows_of(
    folder: Path,
    *,
    die: int | None = None,
    image: int | None = None,
    trimmed: bool | None = None,
    corner: str | None = None,
) -> tuple[int, ...]:
    """Numbers of the rows of one image: of the nominal circuit, or of a ``die`` without or with its trim.

    ``trimmed`` None takes both. With a ``corner``, rows of ``corners.csv``. SpecError, naming what there is, when there
    is no such row.
    """
    name = SAMPLES if corner is None else CORNERS
    if corner is not None and not (folder / CORNERS).is_file():
        raise SpecError(f"--corner {corner}: no {folder / CORNERS}; the limits file's [campaign] corners asks for them")
    frame = sample_texts(folder, name)
    if corner is not None and corner not in set(frame["corner"]):
        known = ", ".join(dict.fromkeys(frame["corner"]))
        raise SpecError(f"--corner {corner}: not in {folder / CORNERS}; its corners are {known}")
    here = pd.Series(True, index=frame.index) if corner is None else frame["corner"] == corner
    at = here & (frame["die"] == str(-1 if die is None else die))
    if not at.any():
        raise SpecError(f"--die {die}: not in {folder / name}; it has dies {_listed(frame['die'])}")
    if image is not None:
        if not (at & (frame["image"] == str(image))).any():
            where = "the nominal circuit" if die is None else f"die {die}"
            raise SpecError(f"--image {image}: not simulated on {where}; its images are {_listed(frame['image'][at])}")
        at &= frame["image"] == str(image)
    if trimmed is not None and "trim" in frame:
        at &= (frame["trim"] == TRIMMED) == trimmed
        if not at.any():
            raise SpecError("--trim: the nominal circuit has none; give --die too")
    return tuple(int(k) for k in np.flatnonzero(at))


def sample_of_check(folder: Path, check: str) -> tuple[tuple[int, ...], str | None]:
    """The sample that decided a check: its rows in ``samples.csv``, and the name of its deck under ``decks/``.

    A transient or noise has a deck only, and a deck that recorded nothing is None. SpecError when there is no such
    check, or no sample of it that can be replayed.
    """
    checks = {row.id: row for row in read_report(folder).checks}
    if check not in checks:
        raise SpecError(f"--check {check}: not in {folder / 'report.json'}; it has {', '.join(checks)}")
    worst = checks[check].worst
    if worst is None or not worst.deck:
        place = "none of which decides it alone" if worst is None else f"the worst at {worst.condition}, without a deck"
        raise SpecError(
            f"--check {check}: a figure over {checks[check].n} samples, {place}; replay rows of samples.csv with --row "
            "or --random"
        )
    deck = (folder / worst.deck).parent
    alone = deck.name if (deck / RECORD).is_file() else None
    in_table = alone is None or read_alone(deck).sample.kind == "equilibrium"
    in_table = in_table and worst.input is not None and not worst.corner  # samples.csv has the typical corner alone
    return rows_of(folder, die=worst.die, image=worst.input) if in_table else (), alone


def random_rows(folder: Path, count: int, seed: int) -> tuple[int, ...]:
    """``count`` different row numbers drawn by ``seed``, in order; all of them when there are fewer."""
    total = len(sample_texts(folder))
    chosen = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return tuple(int(k) for k in np.sort(chosen))


def replay_samples(
    folder: Path,
    rows: Sequence[int] = (),
    decks: Sequence[str] = (),
    *,
    table: str = SAMPLES,
    jobs: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    executor: Executor | None = None,
    progress: Progress,
) -> Replayed:
    """Rows of a ``table`` of a sign-off and decks by name under its ``decks/``, simulated in a new run folder.

    A row is simulated in the whole sweep it was part of, a deck by itself. SchemaError when the sign-off kept no inputs
    or something was altered, SpecError for a row that it does not have.
    """
    recorded = sample_texts(folder, table)
    for row in rows:
        if not 0 <= row < len(recorded):
            raise SpecError(
                f"--row {row}: {folder / table} has rows 0 to {len(recorded) - 1} (the header is not counted)"
            )
    kept = read_kept(folder)
    simulator = find_simulator()
    with tempfile.TemporaryDirectory(prefix="analog-deq-replay-") as scratch:
        bed = Bed(simulator, Path(scratch), jobs, timeout_s, limits_of(memory_bytes), executor)
        compared = _replay_rows(kept, folder, recorded, rows, bed, progress) if rows else []
        compared += [_replay_deck(kept, folder / "decks" / name, bed, progress) for name in decks]
    return Replayed(
        folder, tuple(compared), f"ngspice {kept.ngspice} ({kept.solver})",
        f"ngspice {simulator.version} ({simulator.solver})",
    )  # fmt: skip


def _replay_rows(
    kept: Kept, folder: Path, recorded: pd.DataFrame, rows: Sequence[int], bed: Bed, progress: Progress
) -> list[ReplayedRow]:
    place = [name for name in PLACE if name in recorded]
    keys = recorded.iloc[list(rows)][[name for name in place if name != "image"]].drop_duplicates()
    found = []
    for key in keys.to_dict("records"):
        die, trim, corner = int(key["die"]), str(key.get("trim", "none")), key.get("corner")
        what = "the nominal circuit" if die < 0 else f"die {die}"
        progress.note(what + ("" if corner is None else f" at {corner}") + (", trimmed" if trim == TRIMMED else ""))
        if corner is None:
            found.append(_simulated(kept, folder, die, trim, bed, progress))
        else:
            found.append(_at_corner(kept, folder, str(corner), die, bed, progress))
    text = io.StringIO(csv_text(pd.concat(found, ignore_index=True)))
    again = pd.read_csv(text, dtype=str, keep_default_na=False).drop_duplicates(place).set_index(place)
    return [_compared(row, recorded.iloc[row], again, place) for row in rows]


def _replay_deck(kept: Kept, place: Path, bed: Bed, progress: Progress) -> ReplayedRow:
    was = read_alone(place)
    inputs = kept.inputs
    if isinstance(inputs, FamilyInputs):
        raise SchemaError(f"{place}: a deck of the mapping {inputs.design.mapping!r}; replay rows of samples.csv")
    proxy = matching_proxy(kept.proxy, inputs)
    checkpoint = matching_checkpoint(kept.checkpoint, inputs, kept.proxy)
    flat = kept.flat or not proxy.synapse.linear
    writer = Replay(inputs.design, proxy, checkpoint, inputs.cells, inputs.task(), "klu" in kept.solver.lower(), flat)
    progress.note(f"{place.name}, alone")
    status, values = run_alone(was, writer, bed, progress)
    names = dict.fromkeys([*was.values, *values])
    return ReplayedRow(
        None, {"deck": place.name}, {"status": was.status, **{name: was.values.get(name, "") for name in names}},
        {"status": status, **{name: values.get(name, "") for name in names}},
    )  # fmt: skip


def _simulated(kept: Kept, folder: Path, die: int, trim: str, bed: Bed, progress: Progress) -> pd.DataFrame:
    inputs = kept.inputs
    task = inputs.task()
    if isinstance(inputs, FamilyInputs):
        proxy = read_family_proxy(kept.proxy, inputs)
        network = matching_family_checkpoint(kept.checkpoint, inputs, kept.proxy)
        return samples_again(inputs.family, proxy, network, task, die, bed, progress, flat=kept.flat)
    return _again(inputs, kept, folder, die, trim, bed, progress).samples(die, trim)


def _at_corner(kept: Kept, folder: Path, corner: str, die: int, bed: Bed, progress: Progress) -> pd.DataFrame:
    inputs = kept.inputs
    if isinstance(inputs, FamilyInputs):
        raise SchemaError(f"{folder}: the mapping {inputs.design.mapping!r} has no corners")
    again = _again(inputs, kept, folder, die, "none" if die < 0 else TRIMMED, bed, progress)
    return again.corners(corner, die, inputs.plan, kept.limits)


def _again(inputs: Inputs, kept: Kept, folder: Path, die: int, trim: str, bed: Bed, progress: Progress) -> Again:
    trims = {}
    if trim == TRIMMED:
        trims[die] = read_trim(folder / "trims.csv", die, inputs.design.sizes.states)
    return Again(
        inputs.design, matching_proxy(kept.proxy, inputs), matching_checkpoint(kept.checkpoint, inputs, kept.proxy),
        inputs.cells, inputs.task(), kept.flat, trims, bed, progress,
    )  # fmt: skip


def _compared(row: int, recorded: pd.Series, again: pd.DataFrame, place: list[str]) -> ReplayedRow:
    at = tuple(recorded[name] for name in place)
    if at not in again.index:
        raise SchemaError(f"samples.csv: row {row}: no such sample in what the kept inputs give ({', '.join(at)})")
    new = again.loc[at]
    names = [name for name in recorded.index if name not in place]
    return ReplayedRow(
        row, dict(zip(place, at, strict=True)), {name: str(recorded[name]) for name in names},
        {name: str(new.get(name, "")) for name in names},
    )  # fmt: skip


def _listed(values: pd.Series) -> str:
    numbers = sorted({int(v) for v in values})
    if len(numbers) > 12 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:40])) + (" ..." if len(numbers) > 40 else "")
