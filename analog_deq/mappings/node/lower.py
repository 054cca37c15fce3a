"""Lowering a node network: decks of the whole circuit, its array flat or as its exact resistor mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from analog_deq.mappings.mapping import Equilibria, Settled
from analog_deq.mappings.node.netlist import NodeCells, flat_array, network_lines, reduced_array
from analog_deq.netlists.crossbar import CrossbarParameters
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.network import port_names, saved_vectors
from analog_deq.proxy.array import source_pattern
from analog_deq.records import OK, Alter, Command, Dc, Deck, Noise, Op, Plot, Progress, Tran
from analog_deq.reduction import PortAdmittance, mesh, reduce_array
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.verify.lower import TRANSIENT_POINTS, WALK_STEPS, Options, similar_order, supply_power_w
from analog_deq.verify.sweeps import BLOCK, Bed
from analog_deq.waveforms import settling_time

Array = np.ndarray
SIGNALS = ("s", "zp", "zn")
IMAGES_PER_DECK = 4
SUBSTEPS = 2
"""Sweep points per image; half steps cut Newton's iterations."""


@dataclass(frozen=True, slots=True)
class NodeLowered:
    """One die of a programmed network. ``programmed`` (2, rows, N) siemens; ``dg`` their relative errors.

    ``band`` is (points a decade, first, last frequency) of its noise.
    """

    design: DesignSpec
    cells: NodeCells
    programmed: Array
    klu: bool
    band: tuple[int, float, float]
    deviations: Mapping[str, Array] = field(default_factory=dict)
    dg: Array | None = None
    array: PortAdmittance = field(init=False)

    def __post_init__(self) -> None:
        seen = self.programmed if self.dg is None else self.programmed * (1 + self.dg)
        wires = self.design.crossbar
        reduced = reduce_array(
            seen[0], seen[1], r_line_ohm=wires.r_line_ohm, r_dac_ohm=wires.r_dac_ohm,
            both_word_ends=wires.both_word_ends,
        )  # fmt: skip
        object.__setattr__(self, "array", reduced)

    @property
    def states(self) -> int:
        return int(self.programmed.shape[2])

    def run_equilibria(
        self, x: Array, guess: ProxyStates | None, bed: Bed, progress: Progress, *, flat: bool = False
    ) -> Equilibria:
        """Equilibria of ``x`` (images, M); the supply counts the DACs' power too.

        A block of images that fails is halved until the failing image stands alone; that one is walked to from dark
        inputs, and counts as failed if it is not reached then.
        """
        h = np.zeros((len(x), self.states)) if guess is None else guess.h.numpy()
        z, supply = np.full((len(x), self.states), np.nan), np.full(len(x), np.nan)
        status = np.full(len(x), "not run", dtype=object)

        def keep(images: Array, plot: Plot, points: slice) -> None:
            ports = np.real(plot.columns([f"v({name})" for name in port_names(self.states)]))[points]
            z[images], status[images] = self._reading(ports), OK
            supply[images] = supply_power_w(plot, self.design)[points] + self._dac_power_w(x[images], ports)

        order, alone = similar_order(h), []
        pending = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
        while pending:
            decks = [self.equilibria(x[block], guess_h=h[block[0]], flat=flat) for block in pending]
            retry: list[Array] = []
            for block, outcome in zip(pending, bed.run(decks, progress), strict=True):
                if outcome.run is not None:
                    keep(block, outcome.run.plots[0], slice(None, None, SUBSTEPS))
                elif len(block) > 1:
                    retry += [block[: len(block) // 2], block[len(block) // 2 :]]
                else:
                    alone.append(block)
            pending = retry
        walks = [self.walk(x[block[0]], flat=flat) for block in alone]
        for block, outcome in zip(alone, bed.run(walks, progress) if walks else [], strict=True):
            if outcome.run is None:
                status[block] = outcome.status
            else:
                keep(block, outcome.run.plots[0], slice(-1, None))
        return Equilibria(z, status, supply)

    def run_settling(self, x: Array, ends: Array, tolerance: float, bed: Bed, progress: Progress) -> list[Settled]:
        """Transients from nodes at 0 V with drivers settled there."""
        blocks = [np.arange(len(x))[k : k + IMAGES_PER_DECK] for k in range(0, len(x), IMAGES_PER_DECK)]
        results = []
        for block, outcome in zip(blocks, bed.run([self.transients(x[b]) for b in blocks], progress), strict=True):
            for k, image in enumerate(block):
                if outcome.run is None:
                    results.append(Settled(outcome.status))
                    continue
                plot = outcome.run.plots[k]
                ports = np.real(plot.columns([f"v({name})" for name in port_names(self.states)]))
                off = np.abs(self._reading(ports) - ends[image]).max(axis=1)
                settled = settling_time(plot.sweep, off, 0.0, tolerance)
                until = plot.sweep <= settled
                inputs = np.broadcast_to(x[image], (len(ports), x.shape[1]))
                power = supply_power_w(plot, self.design) + self._dac_power_w(inputs, ports)
                status = OK if np.isfinite(settled) else "not settled in the window"
                energy = float(np.trapezoid(power[until], plot.sweep[until]))
                results.append(Settled(status, settled, energy, float(off[-1])))
        return results

    def run_noise(self, x: Array, nodes: list[int], bed: Bed, progress: Progress) -> Array:
        """Noise of the readings of ``nodes`` at one image, rms in units of z."""
        outcome = bed.run([self.noise(x, nodes)], progress)[0]
        if outcome.run is None:
            return np.full(len(nodes), np.nan)
        density = np.stack([np.real(p["onoise_spectrum"]) for p in outcome.run.plots], axis=1)
        rms = np.sqrt(np.trapezoid(density**2, outcome.run.plots[0].sweep, axis=0))
        return np.asarray(rms / (2 * self.cells.settings.z_unit_v))

    def flat_deck(self, x: Array) -> Deck:
        return self.equilibria(x[None], flat=True)

    def equilibria(self, x: Array, *, guess_h: Array | None = None, flat: bool = False) -> Deck:
        """Equilibria of images ``x``: one ``.dc`` sweep over the image index, from ``guess_h`` (N,)."""
        command: Command = Op() if len(x) == 1 else Dc("Vk", 0, len(x) - 1, 1 / SUBSTEPS)
        lines = self._lines(x, flat) + ([] if guess_h is None else [self._nodeset(guess_h)])
        return self._deck("equilibria", lines, [command], self._options(1e-6), SIGNALS)

    def walk(self, x: Array, *, flat: bool = False) -> Deck:
        """Equilibrium of one image ``x`` (M,), approached from dark inputs on Sparse."""
        options = {key: value for key, value in self._options(1e-6).items() if key != "klu"}
        lines = self._lines(np.stack([np.zeros_like(x), x]), flat)
        return self._deck("walk to one equilibrium", lines, [Dc("Vk", 0, 1, 1 / WALK_STEPS)], options, SIGNALS)

    def transients(self, x: Array, *, flat: bool = False) -> Deck:
        """Settling of each image of ``x`` from rest, one transient an image."""
        window, prefix = self.design.verify.transient_window_s, "vx" if flat else "ij"
        values = self._source_volts(x) if flat else self._port_amps(x)
        lines = [*self._lines(x[:1], flat), ".ic " + " ".join(f"v(s{i})=0" for i in range(self.states))]
        commands: list[Command] = []
        for k, row in enumerate(values):
            if k:
                commands.append(Alter(tuple((f"{prefix}{port}", float(value)) for port, value in enumerate(row))))
            commands.append(Tran(window / TRANSIENT_POINTS, window, window / TRANSIENT_POINTS))
        return self._deck("settling from rest", lines, commands, {**self._options(1e-5), "trtol": 1.0}, SIGNALS)

    def noise(self, x: Array, nodes: list[int], *, flat: bool = False) -> Deck:
        """Output noise of the rows of ``nodes`` at the equilibrium of one image."""
        source = "vx0" if flat else "ij0"
        lines = self._lines(x[None], flat)
        lines = [f"{line} ac 1" if line.lower().startswith(f"{source} ") else line for line in lines]
        commands: list[Command] = [Noise(f"v(zp{i},zn{i})", source, *self.band) for i in nodes]
        options = {key: value for key, value in self._options(1e-6).items() if key != "klu"}
        return self._deck("output noise", lines, commands, options, ())

    def _reading(self, ports: Array) -> Array:
        rows = ports[:, self.states :]
        return np.asarray((rows[:, 0::2] - rows[:, 1::2]) / (2 * self.cells.settings.z_unit_v))

    def _source_volts(self, x: Array) -> Array:
        ones = np.ones((len(x), 1))
        pattern = source_pattern(x.shape[1]) * self.cells.settings.z_unit_v
        return np.asarray(np.concatenate([x, ones], axis=1) @ pattern.T)

    def _port_amps(self, x: Array) -> Array:
        return np.asarray(-self._source_volts(x) @ self.array.y_sources.T)

    def _dac_power_w(self, x: Array, ports_v: Array) -> Array:
        assert self.array.y_drive is not None, "reduced with its sources' block"
        volts = self._source_volts(x)
        amps = ports_v @ self.array.y_sources + volts @ self.array.y_drive.T
        return np.asarray((volts * amps).sum(axis=1))

    def _lines(self, x: Array, flat: bool) -> list[str]:
        lines = network_lines(self.cells, self.design.operating, self.states, self.deviations)
        if not flat:
            return lines + reduced_array(mesh(self.array.y_ports), self.states, self._port_amps(x))
        array = self.design.crossbar
        errors = {} if self.dg is None else {"dg": self.dg}
        parameters = CrossbarParameters(
            self.programmed[0], self.programmed[1], array.r_line_ohm, array.r_dac_ohm, errors,
            both_word_ends=array.both_word_ends,
        )  # fmt: skip
        return lines + flat_array(parameters, self.cells.named["synapse"], self._source_volts(x))

    def _nodeset(self, h: Array) -> str:
        settings, pairs = self.cells.settings, []
        for i, value in enumerate(h):
            z = settings.z_unit_v * float(np.tanh(value))  # near enough for a start, whatever the activation
            pairs += [f"v(s{i})={number(settings.v_unit_v * value)}", f"v(zp{i})={number(z)}", f"v(zn{i})={number(-z)}"]
        return ".nodeset " + " ".join(pairs)

    def _options(self, reltol: float) -> Options:
        options: Options = {
            "reltol": reltol, "abstol": 1e-13, "vntol": 1e-7 if reltol > 1e-7 else 1e-9, "gmin": 1e-15,
            "method": "gear",
        }  # fmt: skip
        return {**options, "klu": True} if self.klu else options

    def _deck(
        self, title: str, lines: list[str], commands: list[Command], options: Options, signals: tuple[str, ...]
    ) -> Deck:
        return build_deck(
            f"{self.design.name}: {title} of the whole network", lines, commands,
            save=saved_vectors(self.states, signals=signals) if signals else (), options=options,
            files=self.cells.files, temperature_celsius=self.design.operating.temperature_celsius,
            arguments=self.cells.arguments,
        )  # fmt: skip
