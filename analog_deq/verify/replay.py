"""Decks of one sample of a network, for people; and the trim currents that a die needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import as_tensor

from analog_deq.errors import SpecError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Deck
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.corners import at_corner, corner_named
from analog_deq.verify.dies import DieResult, draw_die
from analog_deq.verify.dynamics import round_decade
from analog_deq.verify.lower import LoweredNetwork


@dataclass(frozen=True, slots=True)
class Replay:
    """Prints the deck of one sample of a network. It remembers its model, and the network it was last asked for."""

    design: DesignSpec
    proxy: ProxyParameters
    checkpoint: Checkpoint
    cells: NeuronCells
    task: Task
    klu: bool
    flat: bool
    _last: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def model(self) -> DeployedNetwork:
        """The network as the nominal proxy sees it."""
        if "model" not in self._last:
            net = self.checkpoint
            self._last["model"] = DeployedNetwork.nominal(
                self.design, self.proxy, net.g_pos, net.g_neg, net.r_feedback_share
            )
        model: DeployedNetwork = self._last["model"]
        return model

    def readout(self) -> Readout:
        """The trained readout behind its ADCs."""
        net = self.checkpoint
        bits = self.design.converters.adc_bits
        return Readout(as_tensor(net.readout_weight), as_tensor(net.readout_bias), bits)

    def network(self, die: int | None, trim_a: np.ndarray | None = None, corner: str = "") -> LoweredNetwork:
        """The nominal network, or one die of it with its trim currents; at a corner only for flat decks."""
        if self._last.get("asked") != (die, corner):
            net = self.checkpoint
            nominal = LoweredNetwork.nominal(
                self.design, self.cells, net.g_pos, net.g_neg, self.klu, self.proxy, net.r_feedback_share
            )
            if corner:
                nominal = at_corner(nominal, corner_named(self.design, self.cells, corner))
            self._last.update(asked=(die, corner), network=nominal if die is None else draw_die(nominal, die))
        network: LoweredNetwork = self._last["network"]
        return network if trim_a is None else replace(network, trim_a=trim_a)

    def runs_flat(self, kind: str, network: LoweredNetwork, corner: str = "") -> bool:
        """Whether a deck of ``kind`` is written flat: as asked, or where only a simulation can tell conductances."""
        return self.flat or bool(corner) or bool(network.errors) or (kind == "noise" and not self.proxy.synapse.thermal)

    def noise_nodes(self, network: LoweredNetwork) -> list[int]:
        """Nodes whose output noise a deck of the kind ``noise`` has, in its order."""
        return [int(n) for n in np.linspace(0, network.states - 1, self.design.verify.noise_nodes).round()]

    def deck(
        self,
        kind: str,
        image: int,
        die: int | None = None,
        trim_a: np.ndarray | None = None,
        corner: str = "",
        *,
        mirrored: bool = True,
    ) -> Deck:
        """Deck of one test image: ``equilibrium``, ``transient`` (nominal, from rest) or ``noise``.

        A die whose conductances only a simulation can tell is written flat, and so is the network at a corner.
        SpecError for the transient of a die: its rest state hangs on offsets only its own op-amps know.
        """
        if kind == "transient" and die is not None:
            raise SpecError("--analysis transient: only of the nominal circuit; use equilibrium or noise for a die")
        model = self.model()
        image_x = self.task.x_test[image : image + 1]
        x = model.inputs(image_x).numpy()
        network = self.network(die, trim_a, corner)
        network = network if mirrored else network.unmirrored()
        flat = self.runs_flat(kind, network, corner)
        if kind == "transient":
            return network.transients(x, self.proxy.integrator.values["s0_v"], flat=flat)
        if kind == "noise":
            low, high = self.proxy.noise.domain["frequency_hz"]
            return network.noise(x[0], self.noise_nodes(network), low, round_decade(high), flat=flat)
        guess = model.solve(image_x, domain_share=None).h.numpy()[0]
        return network.equilibria(x, guess_h=guess, flat=flat)


def run_line(deck: Deck, name: str) -> str:
    """The command that runs ``deck`` as file ``name``."""
    return " ".join(["ngspice -n", *(f"-D {argument}" for argument in deck.arguments), f"-b {name}"])


def write_deck(deck: Deck, path: Path) -> None:
    """The deck as a file, and the cells it includes beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(deck.text)
    for name, content in deck.files:
        (path.parent / name).write_text(content)


def write_trims(dies: Sequence[DieResult], path: Path) -> None:
    """CSV of the trim currents: one row a die, columns ``die``, ``i0_a`` .. in amperes, full precision."""
    frame = pd.DataFrame([r.trim_a for r in dies]).rename(columns=lambda k: f"i{k}_a")
    frame.insert(0, "die", [r.die for r in dies])
    frame.to_csv(path, index=False)


def read_trim(path: Path, die: int, states: int) -> np.ndarray:
    """Trim currents (N,) of one die from a file of :func:`write_trims`; SpecError when it does not hold them."""
    try:
        frame = pd.read_csv(path, dtype=str).set_index("die")  # as text: pandas' own numbers may lose a last digit
        values = frame.loc[str(die)].to_numpy(dtype=float)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(
            f"{path}: holds no trim currents of die {die} ({error!r}); give trims.csv of a verify run"
        ) from error
    if values.shape != (states,) or not np.isfinite(values).all():
        raise SpecError(f"{path}: die {die} has {values.size} trim currents; {states} finite ones are needed")
    return values
