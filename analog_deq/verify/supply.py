"""Supply power at an equilibrium, exact for any cell: the array replaced by the currents it draws.

A one-way deck loads each row with its own conductance alone, so its supply currents miss what the summing nodes and the
other rows draw through the wires. By the substitution theorem a circuit does not change when a network is replaced by
current sources of the currents it draws, and the reduction knows those at every port: one more sweep, of N neurons with
nothing between them, has the true supply currents whatever the cells are made of. Its port voltages must come out as
they were; where they do not, the equilibrium itself was wrong (a driver that is no source behind its resistance), and
the image counts as failed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analog_deq.records import Progress
from analog_deq.verify.sweeps import BLOCK, Bed, Sweep, SweepResult

AGREE = 1e-5
"""Of z_unit: how far a port may be from where the equilibrium had it. Newton's tolerance is 1e-6."""


def with_exact_supply(
    sweeps: list[Sweep], results: list[SweepResult], bed: Bed, progress: Progress, *, reltol: float = 1e-6
) -> list[SweepResult]:
    """``results`` of reduced ``sweeps`` with the supply power of the true row currents (``states.supply_w``).

    An image whose ports are not where they were by more than :data:`AGREE` becomes a failed one, which says so.
    """
    places = [
        (k, np.flatnonzero(result.ok)[start : start + BLOCK])
        for k, result in enumerate(results)
        for start in range(0, int(result.ok.sum()), BLOCK)
    ]
    decks = [sweeps[k].die.substituted(sweeps[k].x[at], results[k].states.ports_v[at], reltol) for k, at in places]
    exact = [replace(r, states=replace(r.states, supply_w=r.states.supply_w.copy())) for r in results]
    for (k, at), outcome in zip(places, bed.run(decks, progress), strict=True):
        die, states = sweeps[k].die, exact[k].states
        if outcome.run is None:
            exact[k].status[at] = f"supply: {outcome.status}"
            continue
        ports, supply = die.read_substituted(outcome.run.plots[0])
        off = np.abs(ports - states.ports_v[at]).max(axis=1) / die.design.neuron.z_unit_v
        states.supply_w[at] = supply
        exact[k].status[at[off > AGREE]] = "the array's currents do not hold the ports where the equilibrium had them"
    return exact
