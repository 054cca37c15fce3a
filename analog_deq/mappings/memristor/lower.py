"""Lowering: one die of a programmed network as decks of the whole circuit, flat or with its array reduced exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from analog_deq.array import sinh_read
from analog_deq.mappings.mapping import Equilibria, Settled
from analog_deq.mappings.memristor.closure import admittance
from analog_deq.mappings.memristor.netlist import (
    MemristorCells,
    column_ports,
    device_line,
    flat_array,
    neuron_lines,
    physical,
    rails,
    reduced_array,
)
from analog_deq.mappings.memristor.pair import bent
from analog_deq.mappings.memristor.proxy import MemristorProxy
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.netlists.deck import SPICE_OPTIONS, build_deck, number
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import OK, Alter, Command, Dc, Deck, Noise, Op, Plot, Progress, Tran
from analog_deq.reduction import mesh
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.verify.lower import similar_order
from analog_deq.verify.sweeps import Bed
from analog_deq.waveforms import settling_time

Array = np.ndarray
BLOCK = 32
"""Images in one sweep."""
SUBSTEPS = 2
"""Sweep points per image: half steps cut Newton's iterations; only whole images are read."""
WALK_STEPS = 32
TRANSIENTS, POINTS = 4, 400
NOISE_PER_DECADE = 10
Options = dict[str, float | str | bool]


@dataclass(frozen=True, slots=True)
class LoweredMemristor:
    """One die, ready to be printed.

    ``programmed`` (2, R, N) is what the devices are given, ``errors`` their other parameters (R, 2N), ``deviations``
    the neurons' mismatch (N,). ``seen`` (R, 2N) is what the devices show at the read voltage, which reduced decks are
    made of; None until ngspice has read it (:meth:`known`).
    """

    design: DesignSpec
    spec: MemristorSpec
    cells: MemristorCells
    proxy: MemristorProxy
    programmed: Array
    klu: bool
    seen: Array | None
    errors: Mapping[str, Array] = field(default_factory=dict)
    deviations: Mapping[str, Array] = field(default_factory=dict)

    @property
    def states(self) -> int:
        return self.design.sizes.states

    @property
    def bends(self) -> bool:
        """Whether the devices' read law is no straight line."""
        return any(self.proxy.bend)

    def run_equilibria(
        self, x: Array, guess: ProxyStates | None, bed: Bed, progress: Progress, *, flat: bool = False
    ) -> Equilibria:
        """Equilibria of DAC outputs ``x`` (images, M), in sweeps over the image index.

        A sweep that fails is halved; an image that fails alone is walked to from dark inputs.
        """
        n = self.states
        found = Equilibria(
            np.full((len(x), n), np.nan), np.full(len(x), "not run", dtype=object), np.full(len(x), np.nan)
        )
        die, status = (self, OK) if flat else self.known(bed, progress)
        if status != OK:
            found.status[:] = status
            return found
        h = np.zeros((len(x), n)) if guess is None else guess.h.numpy()
        die.sweep(found, x, h, None, bed, progress, flat=flat)
        if not flat and found.ok.any() and die.needs_correction:
            extra = np.zeros((len(x), 2 * n))
            extra[found.ok] = die.correction(x[found.ok], found.z[found.ok])
            die.sweep(found, x, h, extra, bed, progress, flat=False)
        return found

    def sweep(
        self, found: Equilibria, x: Array, h: Array, extra: Array | None, bed: Bed, progress: Progress, *, flat: bool
    ) -> None:
        """Fills ``found``, with ``extra`` (images, 2N) amperes into the columns; walks to images that fail alone."""
        order = similar_order(h)
        pending = [order[k : k + BLOCK] for k in range(0, len(order), BLOCK)]
        alone: list[int] = []

        def more(images: Array | list[int]) -> Array | None:
            return None if extra is None else extra[images]

        while pending:
            decks = [self.equilibria(x[k], h[k[0]], flat=flat, extra=more(k)) for k in pending]
            retry = []
            for images, outcome in zip(pending, bed.run(decks, progress), strict=True):
                if outcome.run is not None:
                    z, watts = self.read_states(outcome.run.plots[0], x[images], flat=flat)
                    found.z[images], found.supply_w[images] = z, watts
                    found.status[images] = OK
                elif len(images) > 1:
                    retry += [images[: len(images) // 2], images[len(images) // 2 :]]
                else:
                    alone.append(int(images[0]))
            pending = retry
        walks = bed.run([self.walk(x[k], flat=flat, extra=more([k])) for k in alone], progress) if alone else []
        for k, outcome in zip(alone, walks, strict=True):
            found.status[k] = outcome.status
            if outcome.run is not None:
                on_the_way = np.linspace(0, 1, WALK_STEPS + 1)[:, None] * x[k]
                z, watts = self.read_states(outcome.run.plots[0], on_the_way, flat=flat, every=1)
                found.z[k], found.supply_w[k] = z[-1], watts[-1]

    @property
    def needs_correction(self) -> bool:
        """Whether wires give the devices of one row voltages that differ, and these bend as sinh does."""
        return self.design.crossbar.r_line_ohm > 0 and self.proxy.sinh_v is not None

    def correction(self, x: Array, z: Array) -> Array:
        """Column currents (images, 2N) of bending devices at DAC outputs ``x`` and readings ``z``, less the deck's own.

        The deck bends a row's voltage at its terminal; here every device bends at its own voltage (Newton). Columns at
        0 V in both: they are virtual grounds.
        """
        assert self.seen is not None, "a die is read before it is corrected"
        assert self.proxy.sinh_v is not None, "only for devices that bend as sinh does"
        unit, line = self.spec.z_unit_v, self.design.crossbar.r_line_ohm
        volts = np.concatenate([self._dac_volts(x), z * unit], axis=1)
        at_read = unit / self.proxy.sinh_v
        g = torch.as_tensor(self.seen) * at_read / np.sinh(at_read)
        read = sinh_read(
            g,
            torch.as_tensor(volts),
            v0=self.proxy.sinh_v,
            r_word_ohm=line,
            r_bit_ohm=line,
            r_source_ohm=self._r_source,
        )
        rows = volts.shape[1]
        return np.asarray(read.currents.numpy() + self._bent(volts) @ self.admittance()[rows:, :rows].T)

    def run_settling(self, x: Array, ends: Array, tolerance: float, bed: Bed, progress: Progress) -> list[Settled]:
        """Transients from rest (amplifiers' capacitors empty), a few images a deck; energy of all supplies and DACs."""
        die, status = self.known(bed, progress)
        if status != OK:
            return [Settled(status) for _ in x]
        blocks = [np.arange(k, min(k + TRANSIENTS, len(x))) for k in range(0, len(x), TRANSIENTS)]
        extra = die.correction(x, ends) if die.needs_correction and len(x) else np.zeros((len(x), 2 * self.states))
        outcomes = bed.run([die.transients(x[block], extra[block]) for block in blocks], progress)
        results = []
        for block, outcome in zip(blocks, outcomes, strict=True):
            for k, image in enumerate(block):
                if outcome.run is None:
                    results.append(Settled(outcome.status))
                    continue
                plot = outcome.run.plots[k]
                z, watts = die.read_states(plot, x[image][None], every=1)
                away = np.abs(z - ends[image]).max(axis=1)
                settled = settling_time(plot.sweep, away, 0.0, tolerance)
                until = plot.sweep <= settled
                energy = float(np.trapezoid(watts[until], plot.sweep[until]))
                state = OK if np.isfinite(settled) else "not settled in the window"
                results.append(Settled(state, settled, energy, float(away[-1])))
        return results

    def run_noise(self, x: Array, nodes: list[int], bed: Bed, progress: Progress) -> Array:
        """Noise of the word lines of ``nodes`` at one image, rms in units of z over the calibrated band.

        Devices with noise of their own need the flat deck: the reduced mesh has their thermal noise only.
        """
        flat = not self.proxy.synapse.thermal
        die, status = (self, OK) if flat else self.known(bed, progress)
        if status != OK:
            return np.full(len(nodes), np.nan)
        outcome = bed.run([die.noise(x, nodes, flat=flat)], progress)[0]
        if outcome.run is None:
            return np.full(len(nodes), np.nan)
        density = np.stack([np.real(p["onoise_spectrum"]) for p in outcome.run.plots], axis=1)
        return np.asarray(np.sqrt(np.trapezoid(density**2, outcome.run.plots[0].sweep, axis=0)) / self.spec.z_unit_v)

    def flat_deck(self, x: Array) -> Deck:
        """The operating point of the whole circuit, every element, at one image."""
        return self.equilibria(x[None], np.zeros(self.states), flat=True)

    def known(self, bed: Bed, progress: Progress) -> tuple[LoweredMemristor, str]:
        """This die with its conductances as ngspice reads them at the devices' terminals, and the reading's status."""
        if self.seen is not None:
            return self, OK
        outcome = bed.run([self.reading()], progress)[0]
        if outcome.run is None:
            return self, f"conductances not read: {outcome.status}"
        g = physical(self.programmed)
        plot = outcome.run.plots[0]
        amps = -np.real(plot.columns([f"i(vg{k})" for k in range(g.size)]))[0]
        return replace(self, seen=amps.reshape(g.shape) / self.spec.z_unit_v), OK

    def reading(self) -> Deck:
        """Deck that reads every device at the read voltage."""
        g = physical(self.programmed)
        lines = include_lines([self.cells.synapse])
        for k, value in enumerate(g.ravel()):
            own = {name: float(values.ravel()[k]) for name, values in self.errors.items()}
            lines.append(f"Vg{k} g{k} 0 {number(self.spec.z_unit_v)}")
            lines += device_line(f"g{k}", f"g{k}", "0", float(value), own, self.spec, self.cells.synapse)
        synapse = [self.cells.synapse]
        return build_deck(
            "every device of one die, read", lines, [Op()], save=[f"i(vg{k})" for k in range(g.size)],
            options=SPICE_OPTIONS, files=cell_files(synapse), arguments=cell_arguments(synapse),
            temperature_celsius=self.design.operating.temperature_celsius,
        )  # fmt: skip

    def admittance(self) -> Array:
        """(R + 2N, R + 2N) of the array behind its DACs' resistance; the drivers' own is in their cells."""
        assert self.seen is not None, "a die is read before it is reduced"
        line = self.design.crossbar.r_line_ohm
        y = admittance(torch.as_tensor(self.seen), r_line_ohm=line, r_source_ohm=self._r_source).numpy()
        return np.asarray((y + y.T) / 2)

    @property
    def _r_source(self) -> torch.Tensor:
        r = torch.zeros(self.programmed.shape[1], dtype=torch.float64)
        r[: -self.states] = self.design.crossbar.r_dac_ohm
        return r

    def equilibria(
        self, x: Array, guess_h: Array, *, flat: bool = False, reltol: float = 1e-6, extra: Array | None = None
    ) -> Deck:
        """Equilibria of images ``x`` (images, M): one sweep over the image index, from ``guess_h`` (N,).

        ``extra`` (images, 2N) are further currents into the columns of the reduced array, in amperes.
        """
        command: Command = Op() if len(x) == 1 else Dc("Vk", 0, len(x) - 1, 1 / SUBSTEPS)
        lines = [*self._circuit(x, flat, extra), self._nodeset(guess_h)]
        return self._deck("equilibria", flat, lines, [command], self._options(reltol), self._saved(flat, len(x)))

    def walk(self, x: Array, *, flat: bool = False, extra: Array | None = None) -> Deck:
        """Equilibrium of one image ``x`` (M,), approached from dark inputs; its last point is read.

        On Sparse: KLU keeps its pivots, which a first iterate far away may have chosen badly.
        """
        both = np.stack([np.zeros_like(x), x])
        options = {key: value for key, value in self._options(1e-6).items() if key != "klu"}
        command = Dc("Vk", 0, 1, 1 / WALK_STEPS)
        grown = None if extra is None else np.concatenate([np.zeros_like(extra), extra])
        lines = self._circuit(both, flat, grown)
        return self._deck("walk to one equilibrium", flat, lines, [command], options, self._saved(flat, 2))

    def transients(self, x: Array, extra: Array | None = None, *, flat: bool = False, reltol: float = 1e-5) -> Deck:
        """Settling of each image of ``x`` from rest, one transient an image; ``.ic`` holds at each.

        ``extra`` as for :meth:`equilibria`: right at the end of each transient.
        """
        window = self.design.verify.transient_window_s
        lines = self._circuit(x[:1], flat, None if extra is None else extra[:1])
        ports = [f"{kind}{side}{i}" for i in range(self.states) for side in "pn" for kind in "sv"]
        lines.append(".ic " + " ".join(f"v({node})=0" for node in ports))
        names, values = self._sources(x, flat, extra)
        commands: list[Command] = []
        for k, row in enumerate(values):
            if k:
                commands.append(Alter(tuple(zip(names, map(float, row), strict=True))))
            commands.append(Tran(window / POINTS, window, window / POINTS))
        options = {**self._options(reltol), "trtol": 1.0}
        return self._deck("settling", flat, lines, commands, options, self._saved(flat, 1))

    def noise(self, x: Array, nodes: Sequence[int], *, flat: bool) -> Deck:
        """Output noise of the word lines of ``nodes`` at one image ``x`` (M,)."""
        source = "vx0" if flat else "ij0"
        lines = self._circuit(x[None], flat, None)
        lines = [f"{line} ac 1" if line.lower().startswith(f"{source} ") else line for line in lines]
        low, high = self.proxy.noise.domain["frequency_hz"]
        commands: list[Command] = [
            Noise(f"v(zp{i})", source, NOISE_PER_DECADE, 10.0 ** round(np.log10(low)), 10.0 ** round(np.log10(high)))
            for i in nodes
        ]
        options = {k: v for k, v in self._options(1e-6).items() if k != "klu"}  # ngspice has no .noise under KLU
        return self._deck("output noise", flat, lines, commands, options, [])

    def read_states(self, plot: Plot, x: Array, *, flat: bool = False, every: int = SUBSTEPS) -> tuple[Array, Array]:
        """Readings (points, N) of a plot and the power of all supplies and DACs (points,), every ``every``-th point."""
        n, rail = self.states, self.design.operating
        z = np.real(plot.columns([f"v(zp{i})" for i in range(n)]))[::every]
        watts = (-np.real(plot["i(vdd)"]) * rail.vdd_v - np.real(plot["i(vss)"]) * rail.vss_v)[::every]
        volts = self._dac_volts(x)
        if flat:
            kind = "vx" if len(x) == 1 else "bx"
            amps = -np.real(plot.columns([f"i({kind}{k})" for k in range(volts.shape[1])]))[::every]
        else:
            y, sources = self.admittance(), volts.shape[1]
            ends = np.real(plot.columns([f"v({port})" for port in column_ports(n)]))[::every]
            rows = self._bent(np.concatenate([np.broadcast_to(volts, (len(z), sources)), z], axis=1))
            amps = rows @ y[:sources, : sources + n].T + ends @ y[:sources, sources + n :].T
        return z / self.spec.z_unit_v, watts + (volts * amps).sum(axis=1)

    def _bent(self, volts: Array) -> Array:
        unit = self.spec.z_unit_v
        return np.asarray(bent(torch.as_tensor(volts / unit), self.proxy.bend).numpy() * unit)

    def _dac_volts(self, x: Array) -> Array:
        return np.concatenate([x, np.ones((len(x), 1))], axis=1) * self.spec.z_unit_v

    def _sources(self, x: Array, flat: bool, extra: Array | None) -> tuple[list[str], Array]:
        """Names and values (images, sources): DAC voltages, or their currents into the ports of the reduced array."""
        volts = self._dac_volts(x)
        if flat:
            return [f"vx{k}" for k in range(volts.shape[1])], volts
        sources = volts.shape[1]
        amps = -self._bent(volts) @ self.admittance()[sources:, :sources].T
        if extra is not None:
            amps[:, self.states :] += extra
        return [f"ij{k}" for k in range(amps.shape[1])], amps

    def _circuit(self, x: Array, flat: bool, extra: Array | None) -> list[str]:
        n = self.states
        lines = [*self.cells.includes, *rails(self.design.operating)]
        for i in range(n):
            own = {key: float(values[i]) for key, values in self.deviations.items()}
            lines += neuron_lines(i, self.spec, self.cells, own)
        names, values = self._sources(x, flat, extra)
        if flat:
            array = self.design.crossbar
            lines += flat_array(
                physical(self.programmed), self.errors, n, self.spec, self.cells.synapse, r_line_ohm=array.r_line_ohm,
                r_dac_ohm=array.r_dac_ohm,
            )  # fmt: skip
            ends = [("x" + name[2:], "0") for name in names]
        else:
            y = self.admittance()
            sources = y.shape[0] - 3 * n
            lines += reduced_array(mesh(y[sources:, sources:]), n, self.proxy.bend, self.spec.z_unit_v)
            rows = [f"{'y' if self.bends else 'zp'}{i}" for i in range(n)]
            ends = [("0", port) for port in rows + column_ports(n)]
        if len(x) == 1:
            return lines + [f"{m} {a} {b} {number(v)}" for m, (a, b), v in zip(names, ends, values[0], strict=True)]
        lines.append("Vk kk 0 0")
        kind = "V" if flat else "I"
        for k, (name, (a, b)) in enumerate(zip(names, ends, strict=True)):
            table = ",".join(f"{m},{number(v)}" for m, v in enumerate(values[:, k]))
            lines.append(f"b{name[1:]} {a} {b} {kind}=pwl(v(kk),{table})")
        return lines

    def _nodeset(self, h: Array) -> str:
        pairs = []
        for i, value in enumerate(h):
            z = number(self.spec.z_unit_v * float(np.tanh(value)))  # near enough for a start, whatever the pair
            pairs += [f"v(sp{i})=0 v(sn{i})=0 v(zp{i})={z}"]
        return ".nodeset " + " ".join(pairs)

    def _saved(self, flat: bool, images: int) -> list[str]:
        n = self.states
        nodes = [f"v(zp{i})" for i in range(n)] + [f"v({port})" for port in column_ports(n)]
        dacs = [f"i({'vx' if images == 1 else 'bx'}{k})" for k in range(self.design.sizes.inputs + 1)] if flat else []
        return [*nodes, *dacs, "i(vdd)", "i(vss)"]

    def _options(self, reltol: float) -> Options:
        options: Options = {
            "reltol": reltol, "abstol": 1e-13, "vntol": 1e-9, "gmin": 1e-15, "method": "gear",
        }  # fmt: skip
        return {**options, "klu": True} if self.klu else options

    def _deck(
        self,
        title: str,
        flat: bool,
        lines: Sequence[str],
        commands: Sequence[Command],
        options: Options,
        save: Sequence[str],
    ) -> Deck:
        form = "every element" if flat else "array reduced"
        return build_deck(
            f"{self.design.name}: {title} of the whole network, {form}", lines, commands, save=save, options=options,
            files=self.cells.files, temperature_celsius=self.design.operating.temperature_celsius,
            arguments=self.cells.arguments,
        )  # fmt: skip
