"""Lowering: a programmed network as decks of the whole circuit, flat or with its array reduced exactly.

The neurons are the user's own subcircuits in both forms. The reduced form is fast; the flat form is the referee
that keeps it honest, because a wrong reduction would otherwise cancel between proxy and ngspice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from analog_deq.errors import SimulationError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.crossbar import CrossbarParameters, lumped_capacitors
from analog_deq.netlists.deck import build_deck, number, step_points
from analog_deq.netlists.network import (
    SIGNALS,
    NetworkParameters,
    flat_network,
    port_names,
    reduced_network,
    saved_vectors,
)
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.proxy.array import source_pattern
from analog_deq.records import Ac, Alter, AlterStep, Command, Dc, Deck, Noise, Op, Plot, Tran
from analog_deq.reduction import OneWay, PortAdmittance, mesh, one_way, reduce_array, thin
from analog_deq.spec import DesignSpec
from analog_deq.tiling import Tile, design_tiles, reduce_tiles
from analog_deq.verify.mirror import MIRROR_LIMIT, MirroredRows

Array = np.ndarray
Options = dict[str, float | str | bool]

NOISE_PER_DECADE = 10
TRANSIENT_POINTS = 40
"""Steps a settling window has at least; the local error makes it a hundred."""
TRANSIENT_RELTOL = 1e-4
RESPONSE_A = 1e-6
RESPONSE_RELTOL = 1e-9
"""Of the operating point that is linearised."""
XMU = 0.48
"""The trapezoidal rule, damped: 0.5 rings on the circuit's fast poles, Gear needs twice the steps (decision 10)."""
ONE_WAY_NOTE = " (array reduced, one-way: read rows as docs/decisions/0003 says; a flat deck needs no correction)"
WALK_STEPS = 32
FULL_STEP_H = 1.5
"""Largest change of a pre-activation that Newton's method takes in one step; beyond it images are half-steps apart."""


@dataclass(frozen=True, slots=True)
class LoweredNetwork:
    """One die of a programmed network, ready to be printed as decks.

    ``g_pos`` and ``g_neg`` (logical rows, N) are what the synapse cells are given as their conductance, ``errors``
    their other mismatch parameters (2, logical rows, N); ``seen`` the conductances they show for it (2, logical rows,
    N), which the reduced array is made of: without it those of g. ``deviations`` is the neurons' mismatch,
    ``r_out_ohm`` the drivers' measured output resistance, which the thin mesh needs. ``reduced`` is computed unless
    given. ``mirrored`` decks have one coupling a state (:mod:`analog_deq.verify.mirror`); a driver that does not allow
    it makes reading the plot an error, and :meth:`unmirrored` is the network to use instead. With ``tiles`` the layer
    is spread over several arrays (:mod:`analog_deq.tiling`); without, over those of the design.
    """

    design: DesignSpec
    cells: NeuronCells
    g_pos: Array
    g_neg: Array
    klu: bool
    r_out_ohm: float
    deviations: Mapping[str, Array] = field(default_factory=dict)
    trim_a: Array | None = None
    errors: Mapping[str, Array] = field(default_factory=dict)
    seen: Array | None = None
    reduced: PortAdmittance | None = None
    mirrored: bool = True
    tiles: tuple[Tile, ...] = ()
    one_way: OneWay = field(init=False)
    fold: MirroredRows = field(init=False)

    @classmethod
    def nominal(
        cls,
        design: DesignSpec,
        cells: NeuronCells,
        g_pos: Array,
        g_neg: Array,
        klu: bool,
        proxy: ProxyParameters,
        share: Array | None = None,
    ) -> LoweredNetwork:
        """The network programmed to ``g_pos`` and ``g_neg`` without mismatch, its conductances those fitted.

        ``share`` (N,) is each neuron's share of R_F.
        """
        seen = np.stack(proxy.synapse.seen_arrays(g_pos, g_neg))
        scaled = {} if share is None else scaled_feedback(share)
        return cls(design, cells, g_pos, g_neg, klu, proxy.driver.values["r_out_ohm"], scaled, seen=seen)

    def __post_init__(self) -> None:
        if not self.tiles:
            object.__setattr__(self, "tiles", design_tiles(self.design))
        if self.reduced is None:
            object.__setattr__(self, "reduced", self.reduce())
        object.__setattr__(self, "one_way", one_way(self.array, self.r_out_ohm))
        object.__setattr__(self, "fold", MirroredRows.of(self.one_way, self.r_out_ohm))

    def unmirrored(self) -> LoweredNetwork:
        """The same network with a coupling from either row."""
        return replace(self, mirrored=False)

    def mirror_error(self, plot: Plot) -> float:
        """Largest error of a pre-activation (units of h) in a reduced deck's plot because its rows are no mirrors."""
        if not self.mirrored:
            return 0.0
        rows = np.real(plot.columns([f"v({name})" for name in port_names(self.states)[self.states :]]))
        neuron = self.design.neuron
        return float(np.abs(self.fold.missed_a(rows)).max() * neuron.r_feedback_ohm / neuron.v_unit_v)

    def reduce(self, *, drive: bool = True) -> PortAdmittance:
        """The array reduced to its ports anew; ``drive`` as in :func:`reduce_array`."""
        array = self.design.crossbar
        g_pos, g_neg = (self.g_pos, self.g_neg) if self.seen is None else self.seen
        if self.tiles:
            return reduce_tiles(
                g_pos, g_neg, self.tiles, r_line_ohm=array.r_line_ohm, r_dac_ohm=array.r_dac_ohm,
                both_word_ends=array.both_word_ends,
            )  # fmt: skip
        return reduce_array(
            g_pos, g_neg, r_line_ohm=array.r_line_ohm, r_dac_ohm=array.r_dac_ohm, both_word_ends=array.both_word_ends,
            drive=drive,
        )  # fmt: skip

    @property
    def array(self) -> PortAdmittance:
        """The array reduced to its ports."""
        assert self.reduced is not None, "__post_init__ fills it"
        return self.reduced

    @property
    def states(self) -> int:
        return self.g_pos.shape[1]

    @property
    def _parameters(self) -> NetworkParameters:
        array = self.design.crossbar
        return NetworkParameters(
            self.design.neuron,
            self.design.operating,
            self.cells,
            CrossbarParameters(
                self.g_pos,
                self.g_neg,
                array.r_line_ohm,
                array.r_dac_ohm,
                self.errors,
                self.tiles,
                array.c_wire_f,
                array.c_cell_f,
                array.both_word_ends,
            ),
            self.deviations,
            self.trim_a,
        )

    def source_volts(self, x: Array) -> Array:
        """DAC line voltages (images, sources) of DAC outputs ``x`` (images, inputs)."""
        ones = np.ones((len(x), 1))
        return np.asarray(
            np.concatenate([x, ones], axis=1) @ source_pattern(x.shape[1]).T * self.design.neuron.z_unit_v
        )

    def port_amps(self, x: Array) -> Array:
        """DAC currents into the 3N ports (images, 3N)."""
        return np.asarray(-self.source_volts(x) @ self.array.y_sources.T)

    def deck_amps(self, x: Array, nudge_a: Array | None = None) -> tuple[Array, Array]:
        """Currents into the ports of a one-way deck, and the voltages (images, 2N) its rows then lack.

        What the DACs drive through the wires into the rows is linear for drivers behind a resistance: it goes into the
        N summing nodes instead, which saves 2N sources. A nudge of all 3N ports stays at the rows, for the supply to
        feel it, but for the share that is common to both rows of a state, which would keep them from being mirrors.
        """
        amps, n = self.port_amps(x), self.states
        kept = np.zeros((len(x), 2 * n))
        if nudge_a is not None:
            amps[:, : nudge_a.shape[1]] += nudge_a  # the summing nodes are the first ports
            if nudge_a.shape[1] > n:
                kept[:, 0::2] = (amps[:, n::2] - amps[:, n + 1 :: 2]) / 2
                kept[:, 1::2] = -kept[:, 0::2]
        lift = (amps[:, n:] - kept) * self.r_out_ohm / (1 + self.r_out_ohm * self.one_way.own)
        summing = amps[:, :n] - lift @ self.one_way.coupling.T
        return np.concatenate([summing, kept], axis=1) if kept.any() else summing, lift

    def equilibria(
        self,
        x: Array,
        *,
        guess_h: Array | None = None,
        flat: bool = False,
        reltol: float = 1e-6,
        nudge_a: Array | None = None,
        substeps: int = 2,
    ) -> Deck:
        """Equilibria of images ``x`` (images, inputs): one ``.dc`` sweep over the image index.

        ``nudge_a`` (images, N) is a further current into each summing node, in amperes; in a reduced deck (images, 3N)
        go into all ports.

        ``guess_h`` (N,), the pre-activations expected at the first image, becomes a ``.nodeset``: with the ports held
        there ngspice first solves each cell by itself, then lets go. It is where Newton starts, not what it finds.

        Newton's method walks from image to image in ``substeps`` steps; order the images so that neighbours are alike
        (:func:`similar_order`), or it spends ten times the iterations.
        """
        command: Command = Op() if len(x) == 1 else Dc("Vk", 0, len(x) - 1, 1 / substeps)
        lines = self._flat(x, nudge_a) if flat else self._one_way(x, nudge_a)
        if guess_h is not None:
            lines.append(self._nodeset(guess_h))
        return self._deck(
            "equilibria of the whole network" + ("" if flat else ONE_WAY_NOTE),
            lines,
            [command],
            self._options(reltol),
            saved_vectors(self.states),
        )

    def walk(self, x: Array, *, flat: bool = False, reltol: float = 1e-6, nudge_a: Array | None = None) -> Deck:
        """Equilibrium of one image ``x`` (inputs,), approached from dark inputs in ``WALK_STEPS`` steps of a sweep.

        For an image whose operating point ngspice does not find at once; :meth:`read_states` reads its last point. It
        runs on Sparse: KLU, which keeps its pivots, may meet a singular matrix at an iterate on the way, and a run
        whose log says so is refused, because a floating node says the same.
        """
        dark = np.zeros_like(x)
        both = np.stack([dark, x])
        amps = None if nudge_a is None else np.stack([np.zeros_like(nudge_a), nudge_a])
        lines = self._flat(both, amps) if flat else self._one_way(both, amps)
        return self._deck(
            "equilibrium of one image, walked to from dark inputs" + ("" if flat else ONE_WAY_NOTE),
            lines,
            [Dc("Vk", 0, 1, 1 / WALK_STEPS)],
            {key: value for key, value in self._options(reltol).items() if key != "klu"},
            saved_vectors(self.states),
        )

    def substituted(self, x: Array, ports_v: Array, reltol: float) -> Deck:
        """The neurons alone, at every port (images, 3N) the current the array draws there; see verify.supply."""
        lines = reduced_network(self._parameters, [], self.port_amps(x) - ports_v @ self.array.y_ports.T)
        command: Command = Op() if len(x) == 1 else Dc("Vk", 0, len(x) - 1, 1)
        saved = saved_vectors(self.states, signals=("s", "zp", "zn"))
        return self._deck("the neurons at their equilibrium", lines, [command], self._options(reltol), saved)

    def read_substituted(self, plot: Plot) -> tuple[Array, Array]:
        """Port voltages (images, 3N) and supply power (images,) of a :meth:`substituted` deck."""
        ports = np.real(plot.columns([f"v({name})" for name in port_names(self.states)]))
        return ports, supply_power_w(plot, self.design)

    def transients(
        self,
        x: Array,
        rest_v: float,
        *,
        flat: bool = False,
        reltol: float = TRANSIENT_RELTOL,
        points: int = TRANSIENT_POINTS,
    ) -> Deck:
        """Settling of each image of ``x`` (images, inputs) from rest, one transient an image in one deck.

        Rest means every integrator discharged, its op-amp's inputs at ``rest_v``; ``.ic`` holds at each transient.
        ``points`` bounds the time step from above, as a share of the window.
        """
        window = self.design.verify.transient_window_s
        lines = self._flat(x[:1]) if flat else self._one_way(x[:1])
        rest = number(rest_v)
        lines += [".ic " + " ".join(f"v(v{i})={rest} v(s{i})={rest}" for i in range(self.states))]
        values, prefix = (self.source_volts(x), "vx") if flat else (self.deck_amps(x)[0], "ij")
        commands: list[Command] = []
        for k, row in enumerate(values):
            if k:
                commands.append(Alter(tuple((f"{prefix}{port}", float(value)) for port, value in enumerate(row))))
            commands.append(Tran(window / points, window, window / points))
        return self._transient_deck(
            "settling of the whole network from rest", lines, commands, flat, reltol, ("s", "zp", "zn")
        )

    def steps(
        self,
        before: Array,
        after: Array,
        kick_a: Array,
        *,
        guess_h: Array | None = None,
        flat: bool = False,
        reltol: float = TRANSIENT_RELTOL,
        points: int = TRANSIENT_POINTS,
    ) -> Deck:
        """Settling after a step of the inputs, one transient a row, in one deck.

        Until t = 0 the circuit rests with inputs ``before`` (rows, inputs) and currents ``kick_a`` (rows, N) into the
        summing nodes, an operating point of ngspice; from then on its inputs are ``after`` and no current is added.
        ``guess_h`` (N,) as in :meth:`equilibria`, for the operating points of all rows.
        """
        lines = self._flat(before[:1], kick_a[:1]) if flat else self._one_way(before[:1])
        if guess_h is not None:
            lines.append(self._nodeset(guess_h))
        if flat:
            first, last, prefix = self.source_volts(before), self.source_volts(after), "vx"
        else:
            (first, _), (last, _), prefix = self.deck_amps(before, kick_a), self.deck_amps(after), "ij"
        names = [f"{prefix}{k}" for k in range(first.shape[1])]
        if flat:
            names += [f"in{i}" for i in range(self.states)]
            first, last = np.concatenate([first, kick_a], axis=1), np.concatenate([last, 0 * kick_a], axis=1)
        sources = set(names)
        for k, line in enumerate(lines):
            if (words := line.split(None, 3)) and words[0].lower() in sources:
                lines[k] = " ".join([*words[:3], f"pwl({step_points(0.0, 0.0)})"])
        window = self.design.verify.transient_window_s
        commands: list[Command] = []
        for start, end in zip(first, last, strict=True):
            commands.append(AlterStep(tuple(zip(names, map(float, start), map(float, end), strict=True))))
            commands.append(Tran(window / points, window, window / points))
        return self._transient_deck("settling of the whole network after a step", lines, commands, flat, reltol)

    def moving_rails(
        self,
        x: Array,
        shares: Sequence[tuple[float, float]],
        *,
        guess_h: Array | None = None,
        flat: bool = False,
        reltol: float = TRANSIENT_RELTOL,
        points: int = TRANSIENT_POINTS,
    ) -> Deck:
        """Each image of ``x`` (images, inputs) while both rails move: one transient an image, in one deck.

        ``shares`` are (time in s, share of the nominal voltages), rising in time from 0, joined by straight lines; the
        transient starts at the operating point with the first. ``guess_h`` (N,) as in :meth:`equilibria`.
        """
        lines = self._flat(x[:1]) if flat else self._one_way(x[:1])
        if guess_h is not None:
            lines.append(self._nodeset(guess_h))
        rails = {"vdd": self.design.operating.vdd_v, "vss": self.design.operating.vss_v}
        for k, line in enumerate(lines):
            if (words := line.split(None, 3)) and words[0].lower() in rails:
                volts = rails[words[0].lower()]
                moved = " ".join(f"{number(time)} {number(share * volts)}" for time, share in shares)
                lines[k] = " ".join([*words[:3], f"pwl({moved})"])
        values, prefix = (self.source_volts(x), "vx") if flat else (self.deck_amps(x)[0], "ij")
        window = self.design.verify.transient_window_s
        commands: list[Command] = []
        for row in values:
            commands.append(Alter(tuple((f"{prefix}{port}", float(value)) for port, value in enumerate(row))))
            commands.append(Tran(window / points, window, window / points))
        return self._transient_deck("the whole network while its rails move", lines, commands, flat, reltol)

    def _transient_deck(
        self,
        title: str,
        lines: list[str],
        commands: list[Command],
        flat: bool,
        reltol: float,
        signals: Sequence[str] = SIGNALS,
    ) -> Deck:
        options = {**self._options(reltol), "trtol": 1.0, "method": "trap", "xmu": XMU}
        saved = saved_vectors(self.states, signals)
        return self._deck(title + ("" if flat else ONE_WAY_NOTE), lines, commands, options, saved)

    def responses(
        self, x: Array, guess_h: Array, start_hz: float, stop_hz: float, per_decade: int, *, flat: bool = False
    ) -> Deck:
        """Small-signal responses at the equilibrium of one image ``x`` (inputs,): one ``.ac`` a summing node.

        The k-th plot holds the integrators' outputs ``v(v0)`` .. for 1 uA into summing node k. ``guess_h`` (N,) as in
        :meth:`equilibria`.
        """
        lines = self._flat(x[None], np.zeros((1, self.states))) if flat else self._one_way(x[None])
        names = [f"{'in' if flat else 'ij'}{i}" for i in range(self.states)]
        sources = set(names)
        lines = [f"{line} ac 0" if line.split(None, 1)[0].lower() in sources else line for line in lines if line]
        lines.append(self._nodeset(guess_h))
        commands: list[Command] = []
        for name in names:
            commands.append(Alter(((name, RESPONSE_A),), "acmag"))
            commands.append(Ac(per_decade, start_hz, stop_hz))
            commands.append(Alter(((name, 0.0),), "acmag"))
        title = "small-signal responses of the whole network" + ("" if flat else ONE_WAY_NOTE)
        saved = saved_vectors(self.states, ("v",), supply=False)
        return self._deck(title, lines, commands, self._options(RESPONSE_RELTOL), saved)

    def noise(
        self,
        x: Array,
        nodes: list[int],
        start_hz: float,
        stop_hz: float,
        *,
        flat: bool = False,
        sums: Array | None = None,
    ) -> Deck:
        """Output noise of the differential rows of ``nodes`` at the equilibrium of one image ``x`` (inputs,).

        Then that of each weighted sum of all rows, ``sums`` (sums, N), which holds how the rows' noise hangs together.
        """
        lines = self._flat(x[None]) if flat else self._mesh(x[None])
        source = "vx0" if flat else "ij0"
        lines = [f"{line} ac 1" if line.lower().startswith(f"{source} ") else line for line in lines]
        outputs = [f"v(zp{i},zn{i})" for i in nodes]
        for k, weights in enumerate([] if sums is None else sums):
            lines += [f"Gsum{k}_{i} 0 sum{k} zp{i} zn{i} {number(w)}" for i, w in enumerate(weights)]
            lines.append(f"Rsum{k} sum{k} 0 1 noisy=0")
            outputs.append(f"v(sum{k})")
        commands: list[Command] = [Noise(output, source, NOISE_PER_DECADE, start_hz, stop_hz) for output in outputs]
        options = {k: v for k, v in self._options(1e-6).items() if k != "klu"}  # ngspice has no .noise under KLU
        return self._deck("output noise of the whole network", lines, commands, options, [])

    def dac_power_w(self, x: Array, ports_v: Array) -> Array:
        """Power the DAC lines deliver (images,), from port voltages (images, 3N) and the reduction's source block."""
        if self.array.y_drive is None:
            raise ValueError("this die was reduced without its sources' own block; reduce it with drive=True")
        volts = self.source_volts(x)
        amps = ports_v @ self.array.y_sources + volts @ self.array.y_drive.T
        return np.asarray((volts * amps).sum(axis=1))

    def read_states(
        self, plot: Plot, x: Array, *, nudge_a: Array | None = None, flat: bool = False, walked: bool = False
    ) -> MeasuredStates:
        """States of an equilibria plot of images ``x`` (images, inputs) and ``nudge_a``, one row an image.

        z is half the differential row voltage over z_unit. ``walked`` reads the end of a :meth:`walk`.
        """
        n = self.states
        index = plot.sweep
        keep = np.arange(len(index))[-1:] if walked or len(x) == 1 else np.flatnonzero(np.abs(index % 1 - 0.5) > 0.49)
        ports = np.real(plot.columns([f"v({name})" for name in port_names(n)]))[keep]
        if not flat:
            self._require_mirrors(plot)
            ports[:, n:] = self._rows(ports, self.deck_amps(x, nudge_a)[1])
        v = np.real(plot.columns([f"v(v{i})" for i in range(n)]))[keep]
        return MeasuredStates(self._reading(ports[:, n:]), ports, v, supply_power_w(plot, self.design)[keep])

    def read_trajectory(self, plot: Plot, x: Array, *, flat: bool = False) -> tuple[Array, Array, Array]:
        """Time (points,), readings z (points, N) and supply power (points,) of a transient plot of one image ``x``."""
        n = self.states
        ports = np.real(plot.columns([f"v({name})" for name in port_names(n)]))
        if not flat:
            self._require_mirrors(plot)
            ports[:, n:] = self._rows(ports, self.deck_amps(x[None])[1])
        return plot.sweep, self._reading(ports[:, n:]), supply_power_w(plot, self.design)

    def _require_mirrors(self, plot: Plot) -> None:
        error = self.mirror_error(plot)
        if error > MIRROR_LIMIT:
            raise SimulationError(
                f"the drivers' outputs are no mirror images: their rows are off by {error:.2g} units of h (limit "
                f"{MIRROR_LIMIT:g}); lower this network with mirrored=False"
            )

    def _rows(self, ports: Array, lift: Array) -> Array:
        """True row voltages (..., 2N) from port voltages (..., 3N) of a one-way deck and the rows' ``lift``."""
        form, n = self.one_way, self.states
        return np.asarray((ports[:, n:] + lift) @ form.correction.T - ports[:, :n] @ form.feedback.T)

    def _reading(self, rows: Array) -> Array:
        return np.asarray((rows[:, 0::2] - rows[:, 1::2]) / (2 * self.design.neuron.z_unit_v))

    def _nodeset(self, h: Array) -> str:
        neuron, rails = self.design.neuron, self.design.operating
        pairs = []
        for i, value in enumerate(h):
            z = neuron.z_unit_v * np.tanh(value)  # near enough for a start, whatever the activation
            v = float(np.clip(-neuron.v_unit_v * value, rails.vss_v, rails.vdd_v))
            pairs += [f"v(v{i})={number(v)}", f"v(s{i})=0"]
            pairs += [f"v(zp{i})={number(z)}", f"v(zn{i})={number(-z)}"]
        return ".nodeset " + " ".join(pairs)

    def _mesh(self, x: Array) -> list[str]:
        self._require_seen()
        branches = mesh(thin(self.array, self.r_out_ohm).ports.y_ports)
        return reduced_network(self._parameters, branches, self.port_amps(x)) + self._capacitors()

    def _one_way(self, x: Array, nudge_a: Array | None = None) -> list[str]:
        self._require_seen()
        form = self.one_way
        branches = mesh(form.summing) + [(self.states + k, -1, float(g)) for k, g in enumerate(form.own)]
        amps, _ = self.deck_amps(x, nudge_a)
        coupling = self.fold.coupling if self.mirrored else form.coupling
        return reduced_network(self._parameters, branches, amps, coupling) + self._capacitors()

    def _capacitors(self) -> list[str]:
        neuron = self.design.neuron
        return lumped_capacitors(self._parameters.crossbar, neuron.r_feedback_ohm * neuron.c_feedback_f)

    def _require_seen(self) -> None:
        if self.errors and self.seen is None:
            raise ValueError("a reduced deck of synapses with errors of their own needs their conductances as seen")

    def _flat(self, x: Array, nudge_a: Array | None = None) -> list[str]:
        return flat_network(self._parameters, self.source_volts(x), nudge_a)

    def _options(self, reltol: float) -> Options:
        options: Options = {
            "reltol": reltol, "abstol": 1e-12, "vntol": 1e-7 if reltol > 1e-7 else 1e-9, "gmin": 1e-15,
            "method": "gear",
        }  # fmt: skip
        return {**options, "klu": True} if self.klu else options

    def _deck(self, title: str, lines: list[str], commands: list[Command], options: Options, saved: list[str]) -> Deck:
        return build_deck(
            f"{self.design.name}: {title}",
            lines,
            commands,
            save=saved,
            options=options,
            files=self.cells.files,
            temperature_celsius=self.design.operating.temperature_celsius,
            arguments=self.cells.arguments,
        )


def scaled_feedback(share: Array, drawn: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Deviations of neurons that have ``share`` (N,) of R_F, and of its inverse of C_F, on top of those ``drawn``."""
    own = dict(drawn or {})
    for name, factor in (("r_feedback", share), ("c_feedback", 1 / share)):
        own[name] = factor * (1 + own.get(name, np.zeros_like(share))) - 1
    return own


def similar_order(h: Array) -> Array:
    """Order of images (images,) that walks greedily to the nearest unvisited pre-activation ``h`` (images, N)."""
    left = np.ones(len(h), dtype=bool)
    order = [0]
    left[0] = False
    for _ in range(len(h) - 1):
        distance = np.abs(h - h[order[-1]]).max(axis=1)
        order.append(int(np.argmin(np.where(left, distance, np.inf))))
        left[order[-1]] = False
    return np.array(order)


@dataclass(frozen=True, slots=True)
class MeasuredStates:
    """What ngspice says of a sweep: readings z (images, N), port volts (images, 3N), v (images, N), supply (W)."""

    z: Array
    ports_v: Array
    v: Array
    supply_w: Array


def supply_power_w(plot: Plot, design: DesignSpec) -> Array:
    """Power drawn from both rails (points,). A source's branch current enters its + terminal."""
    rails = design.operating
    return np.asarray(-np.real(plot["i(vdd)"]) * rails.vdd_v - np.real(plot["i(vss)"]) * rails.vss_v)
