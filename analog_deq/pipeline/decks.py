"""Decks for people: a cell on its testbench, the crossbar, or the whole trained network."""

from __future__ import annotations

import time
from pathlib import Path

from analog_deq.calibration.crossbar import CrossbarCurrents
from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench
from analog_deq.calibration.mismatch import READ_V, ConductanceMismatch
from analog_deq.calibration.settling import Settling
from analog_deq.calibration.transfer import Transfer
from analog_deq.errors import SimulatorNotFoundError, SpecError
from analog_deq.netlists.crossbar import CrossbarParameters, flat_lines, terminal
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.pipeline.inputs import Inputs, StageResult, load_inputs, matching_checkpoint, matching_proxy
from analog_deq.records import Deck, Op
from analog_deq.spice.simulator import find_simulator
from analog_deq.tiling import design_tiles
from analog_deq.verify.replay import Replay, read_trim, run_line, write_deck

BENCHES: dict[str, AbstractMeasurement] = {
    "opamp": Settling(), "integrator": Settling(), "activation": Transfer(), "driver": Transfer(),
    "synapse": ConductanceMismatch(),
}  # fmt: skip
"""The testbench that shows each slot: its first block of samples, as calibration runs it."""


def write_netlist(
    kind: str,
    *,
    design: Path,
    out: Path,
    checkpoint: Path | None = None,
    proxy: Path | None = None,
    cell: str | None = None,
    flat: bool = False,
    image: int | None = None,
    die: int | None = None,
    trims: Path | None = None,
    analysis: str = "transient",
) -> StageResult:
    """A deck that runs alone (``ngspice -n -b deck.cir`` writes out.raw), with its cells beside it.

    ``network`` needs ``checkpoint`` and ``proxy`` and shows one test image (``analysis``: transient, equilibrium or
    noise) of the nominal circuit or of a ``die`` with its ``trims``; ``crossbar`` is the flat array, of a checkpoint or
    of calibration; ``cell`` the testbench of a role. SpecError on a missing or impossible option.
    """
    start = time.perf_counter()
    inputs = load_inputs(design, {})
    if kind == "cell":
        deck = _cell(inputs, cell)
    elif kind == "crossbar":
        deck = _crossbar(inputs, checkpoint)
    else:
        deck = _network(inputs, checkpoint, proxy, flat, image, die, trims, analysis)
    write_deck(deck, out)
    lines = deck.text.count("\n")
    summary = {
        "lines": lines,
        "includes": ", ".join(name for name, _ in deck.files),
        "run": run_line(deck, out.name),
    }
    return StageResult("netlist", {"deck": out}, summary, False, time.perf_counter() - start)


def _cell(inputs: Inputs, slot: str | None) -> Deck:
    if slot not in inputs.cells.named:
        raise SpecError(f"--cell {slot}: name the role to show, one of {', '.join(inputs.cells.named)}")
    bench = Bench(inputs.design, inputs.plan, inputs.cells)
    measurement = BENCHES[slot]
    return measurement.decks(bench, measurement.samples(bench)[: measurement.block_size(bench)])[0]


def _crossbar(inputs: Inputs, checkpoint: Path | None) -> Deck:
    bench = Bench(inputs.design, inputs.plan, inputs.cells)
    if checkpoint is None:
        return CrossbarCurrents().decks(bench, [inputs.design.crossbar.r_line_ohm])[0]
    net = matching_checkpoint(checkpoint, inputs)
    array = inputs.design.crossbar
    parameters = CrossbarParameters(
        net.g_pos, net.g_neg, array.r_line_ohm, array.r_dac_ohm, tiles=design_tiles(inputs.design),
        both_word_ends=array.both_word_ends,
    )  # fmt: skip
    rows = 2 * net.g_pos.shape[0]
    synapse = [inputs.cells.synapse]
    lines = [*include_lines(synapse), *flat_lines(parameters, synapse[0])]
    lines += [f"Vx{q} {terminal(q, parameters.sources)} 0 {READ_V}" for q in range(rows)]
    lines += [f"Vs{i} s{i} 0 0" for i in range(parameters.columns)]
    return build_deck(
        f"{inputs.design.name}: programmed crossbar, every row at {READ_V} V",
        lines,
        [Op()],
        save=[f"i(vs{i})" for i in range(parameters.columns)],
        options=SPICE_OPTIONS,
        files=cell_files(synapse),
        temperature_celsius=inputs.design.operating.temperature_celsius,
        arguments=cell_arguments(synapse),
    )


def _network(
    inputs: Inputs,
    checkpoint: Path | None,
    proxy: Path | None,
    flat: bool,
    image: int | None,
    die: int | None,
    trims: Path | None,
    analysis: str,
) -> Deck:
    if checkpoint is None or proxy is None:
        missing = "--checkpoint" if checkpoint is None else "--proxy"
        raise SpecError(f"{missing}: missing; the network's deck needs the trained conductances and their proxy")
    task = inputs.task()
    image = 0 if image is None else image
    if image >= len(task.y_test):
        raise SpecError(f"--image {image}: there are {len(task.y_test)} test images, 0 to {len(task.y_test) - 1}")
    try:
        klu = find_simulator().klu
    except SimulatorNotFoundError:
        klu = False  # a deck can be written without a simulator; without the option every ngspice can run it
    parameters, net = matching_proxy(proxy, inputs), matching_checkpoint(checkpoint, inputs, proxy)
    # synapses that are not linear have no reduced deck
    flat = flat or not parameters.synapse.linear
    replay = Replay(inputs.design, parameters, net, inputs.cells, task, klu, flat)
    if trims is not None and die is None:
        raise SpecError("--trims: belongs to a die; give --die too")
    trim = None if trims is None or die is None else read_trim(trims, die, inputs.design.sizes.states)
    return replay.deck(analysis, image, die, trim)
