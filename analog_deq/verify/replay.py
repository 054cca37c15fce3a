"""Standalone decks: the worst sample of every check, written beside the report with the line that replays it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Deck
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.tasks.digits import Task
from analog_deq.verify.campaign import VerifyResult
from analog_deq.verify.dies import draw_die
from analog_deq.verify.dynamics import round_decade
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.signoff import Measurement


@dataclass(frozen=True, slots=True)
class Replay:
    """Prints the deck of one sample of a network."""

    design: DesignSpec
    proxy: ProxyParameters
    checkpoint: Checkpoint
    cells: NeuronCells
    task: Task
    klu: bool
    flat: bool

    def network(self, die: int | None, trim_a: np.ndarray | None = None) -> LoweredNetwork:
        """The nominal network, or one die of it with its trim currents."""
        nominal = LoweredNetwork(
            self.design, self.cells, self.checkpoint.g_pos, self.checkpoint.g_neg, self.klu,
            self.proxy.driver.values["r_out_ohm"],
        )  # fmt: skip
        return nominal if die is None else replace(draw_die(nominal, die), trim_a=trim_a)

    def deck(self, kind: str, image: int, die: int | None = None, trim_a: np.ndarray | None = None) -> Deck:
        """Deck of one test image: ``equilibrium``, ``transient`` (from rest) or ``noise``."""
        model = DeployedNetwork.nominal(self.design, self.proxy, self.checkpoint.g_pos, self.checkpoint.g_neg)
        x = model.inputs(self.task.x_test[image : image + 1]).numpy()
        network = self.network(die, trim_a)
        if kind == "transient":
            return network.transients(x, self.proxy.integrator.values["s0_v"], flat=self.flat)
        if kind == "noise":
            nodes = np.linspace(0, network.states - 1, self.design.verify.noise_nodes).round()
            low, high = self.proxy.noise.domain["frequency_hz"]
            return network.noise(x[0], [int(n) for n in nodes], low, round_decade(high), flat=self.flat)
        return network.equilibria(x, flat=self.flat)


def write_deck(deck: Deck, path: Path) -> None:
    """The deck as a file, and the cells it includes beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(deck.text)
    for name, content in deck.files:
        (path.parent / name).write_text(content)


def attach_decks(
    result: VerifyResult,
    design: DesignSpec,
    proxy: ProxyParameters,
    checkpoint: Checkpoint,
    cells: NeuronCells,
    task: Task,
    klu: bool,
    flat: bool,
    folder: Path,
) -> VerifyResult:
    """``result`` with a deck under ``folder/decks`` for the worst sample of each measurement that names one."""
    writer = Replay(design, proxy, checkpoint, cells, task, klu, flat)
    trims = {r.die: r.trim_a for r in result.dies}
    written: set[str] = set()

    def attach(m: Measurement) -> Measurement:
        if m.worst is None or m.worst.input is None:
            return m
        kind, image, die = m.worst.deck, m.worst.input, m.worst.die
        name = f"{kind}-image{image}" + (f"-die{die}" if die is not None else "")
        if name not in written:
            trim = None if die is None else trims[die]
            write_deck(writer.deck(kind, image, die, trim), folder / "decks" / name / "deck.cir")
            written.add(name)
        line = f"cd decks/{name} && ngspice -n -b deck.cir"
        return replace(m, worst=replace(m.worst, deck=f"decks/{name}/deck.cir", replay=line))

    return replace(result, measurements=tuple(attach(m) for m in result.measurements))
