"""Exact reduction of a tiled layer to its ports: each tile by itself, added where terminals are shared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from analog_deq.array import terminal_admittance
from analog_deq.errors import SpecError
from analog_deq.reduction import PortAdmittance
from analog_deq.tiling.plan import Tile, check_tiles

Array = np.ndarray


def reduce_tiles(
    g_pos: Array, g_neg: Array, tiles: Sequence[Tile], *, r_line_ohm: float, r_dac_ohm: float
) -> PortAdmittance:
    """Port admittance of a tiled layer, as :func:`analog_deq.reduction.reduce_array` gives for one array.

    Conductances (logical rows, N) in siemens; those outside every tile are not read. All tiles of a DAC row hang on one
    DAC behind ``r_dac_ohm``. SpecError for tiles or conductances no layer has.
    """
    rows, columns = g_pos.shape
    covered = check_tiles(tiles, rows, columns)
    for name, g in (("g_pos", g_pos), ("g_neg", g_neg)):
        if g.shape != covered.shape or not np.all(np.isfinite(g[covered]) & (g[covered] > 0)):
            raise SpecError(
                f"{name}: conductances inside tiles must be finite and > 0, (rows, columns) {covered.shape}"
            )
    physical = np.stack([g_pos, g_neg], axis=1).reshape(2 * rows, columns)
    y = np.zeros((2 * rows + columns,) * 2)
    for tile in tiles:
        own = slice(2 * tile.first_row, 2 * tile.end_row)
        with torch.no_grad():
            part = terminal_admittance(
                torch.as_tensor(physical[own, tile.columns]), r_word_ohm=r_line_ohm, r_bit_ohm=r_line_ohm
            )
        terminals = np.r_[own, 2 * rows + tile.first_column : 2 * rows + tile.end_column]
        y[np.ix_(terminals, terminals)] += part.numpy()
    sources = 2 * (rows - columns)
    ports = np.concatenate([2 * rows + np.arange(columns), np.arange(sources, 2 * rows)])
    y_ss, y_sp, y_pp = y[:sources, :sources], y[:sources][:, ports], y[np.ix_(ports, ports)]
    behind = np.linalg.inv(np.eye(sources) + r_dac_ohm * y_ss)  # line voltage per volt of its source
    y_ports = y_pp - r_dac_ohm * y_sp.T @ behind @ y_sp
    return PortAdmittance((y_ports + y_ports.T) / 2, (behind @ y_sp).T, y_ss @ behind)
