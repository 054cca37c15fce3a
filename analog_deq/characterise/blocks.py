"""Blocks: which copies of a cell share a deck, and that deck.

The partition depends only on the question asked, never on workers or order, so any row can be simulated again from
the first and last die of its block.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analog_deq.characterise.corners import Corner
from analog_deq.characterise.measurement import SPICE_OPTIONS, AbstractCellMeasurement, CellBench, Copy
from analog_deq.draws import Stream, deviations, generator
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Deck, Plot, Reseed

NOMINAL = "nominal"
DIE = "die"
STEP_SHARE = 0.01
"""Step of a parameter without a mismatch sigma, relative to its default, when its sensitivity is measured."""


@dataclass(frozen=True, slots=True)
class Block:
    """Copies measured together: ``variants`` are (variant, die) pairs."""

    measurement: AbstractCellMeasurement
    corner: Corner
    variants: tuple[tuple[str, int], ...]
    bandwidth_hz: float = float("nan")
    stretch: float = 1.0
    first: int = -1

    @property
    def span(self) -> tuple[int, int]:
        """First and last member: die numbers, or places in :func:`sensitivity_variants`, or -1 for the nominal cell."""
        return self.first, self.first + len(self.variants) - 1

    def longer(self) -> Block:
        """The same block with time windows four times as long."""
        return replace(self, stretch=self.stretch * 4)

    def halves(self) -> list[Block]:
        """Two blocks of half the copies."""
        middle = (len(self.variants) + 1) // 2
        late = replace(self, variants=self.variants[middle:], first=self.first + middle)
        return [replace(self, variants=self.variants[:middle]), late]


def library_drawn(cell: Cell) -> bool:
    """Whether the dies of a cell are drawn by its model library instead of in NumPy."""
    return cell.contract.mismatch.mode in {"section", "switch"}


def parameter_steps(cell: Cell) -> dict[str, float]:
    """Step of each parameter whose sensitivity is measured: one sigma, or ``STEP_SHARE`` of its default.

    A programmed state, and a parameter that may not move both ways by its step, has none.
    """
    contract = cell.contract
    programmed = {state.param for state in contract.state.values()}
    steps = {}
    for name, spec in contract.params.items():
        if name in programmed or (contract.drift is not None and name == contract.drift.param):
            continue
        mismatch = contract.mismatch.params.get(name)
        center = cell.corner.params.get(name, spec.default)
        # a sigma that depends on the state is taken half way
        step = STEP_SHARE * abs(center) if mismatch is None else float(mismatch.sigma_at(0.5))
        if step > 0 and spec.min <= center - step and center + step <= spec.max:
            steps[name] = step
    return steps


def sensitivity_variants(cell: Cell) -> list[tuple[str, int]]:
    """Variants ``<parameter>+`` and ``<parameter>-`` of every parameter with a step."""
    return [(f"{name}{sign}", -1) for name in parameter_steps(cell) for sign in "+-"]


def die_normals(cell: Cell, seed: int, die: int) -> dict[str, float]:
    """Standard normal draws, truncated at 5, of a die's mismatch parameters. The same alone and in any campaign."""
    sigmas = dict.fromkeys(cell.contract.mismatch.params, 1.0)
    return {k: float(v[0]) for k, v in deviations(generator(seed, Stream.CELL_DIE, die), sigmas, 1).items()}


def die_seed(seed: int, die: int) -> int:
    """Seed of ngspice for a die that the model library draws."""
    return int(generator(seed, Stream.CELL_DIE, die).integers(1, 2**31 - 1))


def make_copy(cell: Cell, tag: str, variant: str, die: int, seed: int) -> Copy:
    """The copy of a variant: nominal, a die, or one parameter moved by its step."""
    if variant == NOMINAL or (variant == DIE and library_drawn(cell)):
        return Copy(tag, variant, die)
    if variant == DIE:
        return Copy(tag, variant, die, normals=die_normals(cell, seed, die))
    name, sign = variant[:-1], 1.0 if variant.endswith("+") else -1.0
    if name in cell.contract.mismatch.params:
        return Copy(tag, variant, die, normals={name: sign})  # one sigma of the state each instance is programmed to
    center = cell.corner.params.get(name, cell.contract.params[name].default)
    return Copy(tag, variant, die, overrides={name: center + sign * parameter_steps(cell)[name]})


@dataclass(frozen=True, slots=True)
class PreparedBlock:
    """A block with its bench and deck. ``groups`` are the copies of each repetition of the deck's analyses."""

    block: Block
    bench: CellBench
    deck: Deck
    repeats: int

    def plots_of(self, plots: Sequence[Plot]) -> Iterator[tuple[Copy, Copy, tuple[Plot, ...]]]:
        """(copy as named in the deck, copy as asked for, its plots) of every variant of the block."""
        each = len(plots) // self.repeats
        if self.repeats == 1:
            for copy in self.bench.copies:
                yield copy, copy, tuple(plots)
            return
        drawn = self.bench.copies[0]
        for k, (variant, die) in enumerate(self.block.variants):
            yield drawn, replace(drawn, variant=variant, die=die), tuple(plots[k * each : (k + 1) * each])


def prepare(cell: Cell, block: Block, seed: int) -> PreparedBlock:
    """Bench and deck of a block.

    Dies drawn in NumPy are copies side by side. Dies drawn by a model library are one copy simulated again and again,
    ngspice's seed set before each, so that die k does not depend on the dies before it.
    """
    by_library = library_drawn(cell) and block.variants[0][0] == DIE
    bound = cell.at(block.corner.process, mismatch_section=by_library)
    variants = block.variants[:1] if by_library else block.variants
    copies = tuple(make_copy(bound, str(k), variant, die, seed) for k, (variant, die) in enumerate(variants))
    bench = CellBench(bound, block.corner, copies, block.bandwidth_hz, block.stretch)
    testbench = block.measurement.testbench(bench)
    commands = list(testbench.commands)
    if by_library:
        commands = [c for _, die in block.variants for c in (Reseed(die_seed(seed, die)), *testbench.commands)]
    deck = build_deck(
        testbench.title,
        [*include_lines([bound]), *testbench.lines],
        commands,
        save=testbench.save,
        options={**SPICE_OPTIONS, **testbench.options},
        files=cell_files([bound]),
        temperature_celsius=block.corner.temperature_celsius,
        bound=testbench.bound,
        arguments=cell_arguments([bound]),
    )
    return PreparedBlock(block, bench, deck, len(block.variants) if by_library else 1)


def partition(
    measurement: AbstractCellMeasurement, corner: Corner, variants: Sequence[tuple[str, int]], bandwidth_hz: float
) -> list[Block]:
    """Blocks of at most ``measurement.copies`` copies. Dies in a block have consecutive numbers."""
    kind, die = variants[0]
    offset = {NOMINAL: -1, DIE: die}.get(kind, 0)
    return [
        Block(measurement, corner, tuple(part), bandwidth_hz, first=offset + k)
        for k in range(0, len(variants), measurement.copies)
        if (part := variants[k : k + measurement.copies])
    ]


def recorded_block(
    cell: Cell, recorded: Mapping[Hashable, Any], measurement: AbstractCellMeasurement, corner: Corner
) -> Block:
    """The block that a row of a ``quantities`` table was measured in, whatever else was measured then."""
    first, last = int(recorded["block_first"]), int(recorded["block_last"])
    if recorded["variant"] == NOMINAL:
        variants = [(NOMINAL, -1)]
    elif recorded["variant"] == DIE:
        variants = [(DIE, k) for k in range(first, last + 1)]
    else:
        variants = sensitivity_variants(cell.at(corner.process))[first : last + 1]
    return Block(measurement, corner, tuple(variants), float(recorded["bandwidth"]), float(recorded["stretch"]), first)
