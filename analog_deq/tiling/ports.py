"""Exact reduction of a tiled layer to its ports: each tile by itself, added where terminals are shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from analog_deq.array import behind, row_driven_admittance, terminal_admittance
from analog_deq.errors import SpecError
from analog_deq.reduction import PortAdmittance
from analog_deq.tiling.plan import Tile, check_tiles

Array = np.ndarray


def layer_admittance(
    g: Tensor, tiles: Sequence[Tile], *, r_line_ohm: float, r_row_ohm: Tensor, both_word_ends: bool = False
) -> Tensor:
    """Currents (..., R + C, R + C) per volt at the R physical rows' drivers, then at the C summing nodes; siemens.

    ``g`` (..., R, C), rows 2k and 2k + 1 those of logical row k; without ``tiles`` it is one array. All tiles of a row
    hang on its one driver, behind ``r_row_ohm`` (R,). Exact, and so is the gradient; conductances outside every tile
    are not read. Tiles are not checked (:func:`check_tiles`).
    """
    if not tiles:
        return row_driven_admittance(g, r_line_ohm=r_line_ohm, r_row_ohm=r_row_ohm, both_word_ends=both_word_ends)
    rows, columns = g.shape[-2:]
    y = torch.zeros(*g.shape[:-2], rows + columns, rows + columns, dtype=g.dtype)
    for tile, part in _reduced(g, tiles, r_line_ohm, both_word_ends):
        own = slice(2 * tile.first_row, 2 * tile.end_row)
        ends = slice(rows + tile.first_column, rows + tile.end_column)
        count = own.stop - own.start
        for at, inside in ((own, slice(0, count)), (ends, slice(count, None))):
            y[..., at, own] += part[..., inside, :count]
            y[..., at, ends] += part[..., inside, count:]
    return behind(y, r_row_ohm)


def _reduced(
    g: Tensor, tiles: Sequence[Tile], r_line_ohm: float, both_word_ends: bool
) -> Iterator[tuple[Tile, Tensor]]:
    """Each tile and its terminals' admittance; tiles of one shape are reduced together."""
    alike: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        alike.setdefault((tile.end_row - tile.first_row, tile.end_column - tile.first_column), []).append(tile)
    for group in alike.values():
        cells = [g[..., 2 * tile.first_row : 2 * tile.end_row, tile.columns] for tile in group]
        y = terminal_admittance(
            torch.stack(cells), r_word_ohm=r_line_ohm, r_bit_ohm=r_line_ohm, both_word_ends=both_word_ends
        )
        yield from zip(group, y, strict=True)


def reduce_tiles(
    g_pos: Array,
    g_neg: Array,
    tiles: Sequence[Tile],
    *,
    r_line_ohm: float,
    r_dac_ohm: float,
    both_word_ends: bool = False,
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
    physical = torch.as_tensor(np.stack([g_pos, g_neg], axis=1).reshape(2 * rows, columns))
    sources = 2 * (rows - columns)
    entry = torch.zeros(2 * rows, dtype=torch.float64)
    entry[:sources] = r_dac_ohm
    with torch.no_grad():
        y = layer_admittance(
            physical, tiles, r_line_ohm=r_line_ohm, r_row_ohm=entry, both_word_ends=both_word_ends
        ).numpy()
    ports = np.concatenate([2 * rows + np.arange(columns), np.arange(sources, 2 * rows)])
    y_ports = y[np.ix_(ports, ports)]
    return PortAdmittance((y_ports + y_ports.T) / 2, y[ports][:, :sources], y[:sources, :sources])
