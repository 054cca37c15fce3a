"""Tables to proxy: each part on some rows, checked on others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analog_deq.errors import FitError
from analog_deq.fit.parameters import (
    check_goodness,
)
from analog_deq.mappings.memristor.fit_devices import fit_law, fit_read, fit_spread, fit_synapse
from analog_deq.mappings.memristor.fit_neuron import (
    fit_amplifier,
    fit_driver,
    fit_loop,
    fit_mismatch,
    fit_pair,
    fit_poles,
)
from analog_deq.mappings.memristor.fit_noise import fit_noise
from analog_deq.mappings.memristor.proxy import MemristorProxy
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.netlists.contract_schema import NoiseSection
from analog_deq.records import OK
from analog_deq.spec import DesignSpec

Array = np.ndarray


ZERO_CELSIUS = 273.15


def fit(
    tables: Mapping[str, pd.DataFrame], design: DesignSpec, spec: MemristorSpec, device_noise: NoiseSection
) -> MemristorProxy:
    """Proxy of the valid rows; FitError when a part has none, or misses its tolerance on held-out rows."""
    valid = {name: rows[rows["status"] == OK] for name, rows in tables.items()}
    for name, rows in valid.items():
        if rows.empty:
            raise FitError(f"table {name}: every sample failed; see its status column, nothing can be fitted")
    kelvin = design.operating.temperature_celsius + ZERO_CELSIUS
    amplifier = fit_amplifier(valid["transfer"], spec)
    loop = fit_loop(valid["response"], amplifier, spec)
    pair = fit_pair(valid["transfer"], spec)
    poles = fit_poles(valid["response"])
    synapse = fit_synapse(valid["synapse"], valid["synapse_noise"], spec, kelvin)
    spread = fit_spread(valid["conductance"], synapse)
    mismatch, pair_mismatch = fit_mismatch(valid["mismatch"], tables["mismatch"], amplifier, pair, spec)
    proxy = MemristorProxy(
        amplifier=amplifier, loop=loop, pair=pair, driver=fit_driver(valid["transfer"], spec), poles=poles,
        noise=fit_noise(valid["noise"], valid["response"], amplifier, loop, poles, spec, kelvin),
        synapse=synapse, law=fit_law(valid["synapse"], spec), spread=spread,
        read=fit_read(valid["synapse_noise"], synapse, spread.targets, spec, device_noise),
        mismatch=mismatch, pair_mismatch=pair_mismatch,
    )  # fmt: skip
    for part, goodness in proxy.goodness().items():
        check_goodness(part, goodness)
    return proxy
