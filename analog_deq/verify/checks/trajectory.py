"""Does the circuit move as predicted? Each neuron's waveform from rest, in ngspice and by the proxy.

A settling time alone hides a neuron that is too fast: the slowest one sets it. A part that is missing or wrong in one
neuron shows in that neuron's own waveform.
"""

from __future__ import annotations

import numpy as np

from analog_deq.records import OK
from analog_deq.verify.dynamics import Settling
from analog_deq.verify.found import Found
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.verdict import Worst

PERCENT = 100.0


class Trajectory:
    """RMS over time of a neuron's distance from its predicted waveform, of the worst neuron and image, in %FS.

    Time runs from rest to the image's settling time: sqrt(1/T integral (z_spice - z_proxy)^2 dt).
    """

    ids = ("net.trajectory_err",)

    def measure(self, run: SheetRun) -> Found:
        """One measurement over the transients of the base campaign; one that failed is a failed sample."""
        name, n = self.ids[0], len(run.transients)
        errors = [(r, error) for r in run.transients if (error := waveform_error(r)) is not None]
        if not errors:
            return Found((Measurement(name, None, "%FS", n, detail="no transient settled", failed_samples=n),))
        worst, error = max(errors, key=lambda pair: float(pair[1].max()))
        neuron = int(error.argmax())
        where = Worst(f"nominal, from rest, neuron {neuron}", None, worst.image, "transient")
        value = PERCENT * float(error.max())
        return Found(
            (Measurement(name, value, "%FS", n, None, where, "RMS over time of the worst neuron", n - len(errors)),)
        )


def waveform_error(transient: Settling) -> np.ndarray | None:
    """RMS over time of each neuron's distance (N,) from its prediction, in units of z; None for a failed transient."""
    if transient.status != OK or transient.trace is None:
        return None
    t, z, proxy = transient.trace
    until = t <= transient.t_spice_s
    if until.sum() < 2:
        return None
    mean = np.trapezoid((z[until] - proxy[until]) ** 2, t[until], axis=0) / (t[until][-1] - t[until][0])
    return np.asarray(np.sqrt(mean))
