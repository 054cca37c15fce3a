"""Where the devices of a large layer are: rectangular tiles with wires of their own.

Logical rows are ordered inputs, bias, states, as in an untiled array, and every logical row has a + and a - wire. Tiles
that share columns send their currents into the same summing nodes (an analogue partial sum); tiles that share rows hang
on the same driver. Between tiles there is no wire resistance, and where no tile is there is no device at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from analog_deq.errors import SpecError
from analog_deq.spec import DesignSpec

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Tile:
    """Logical rows ``first_row`` to before ``end_row``, columns ``first_column`` to before ``end_column``."""

    first_row: int
    end_row: int
    first_column: int
    end_column: int

    @property
    def rows(self) -> slice:
        return slice(self.first_row, self.end_row)

    @property
    def columns(self) -> slice:
        return slice(self.first_column, self.end_column)

    @property
    def cells(self) -> int:
        """Pairs of devices."""
        return (self.end_row - self.first_row) * (self.end_column - self.first_column)


def cut(rows: int, columns: int, max_rows: int, max_columns: int, used: Array | None = None) -> tuple[Tile, ...]:
    """Tiles of at most ``max_rows`` x ``max_columns`` that cover ``rows`` logical rows and ``columns``, of equal size
    to one row or column.

    With ``used`` (rows, columns), true where a weight is wired, tiles shrink to the smallest rectangle around what they
    hold, and empty ones are left out. SpecError for sizes no tile can have.

    >>> [(t.first_row, t.end_row) for t in cut(5, 2, 3, 4)]
    [(0, 3), (3, 5)]
    """
    if min(rows, columns, max_rows, max_columns) < 1:
        raise SpecError(f"cannot cut {rows} x {columns} into tiles of {max_rows} x {max_columns}: sizes are at least 1")
    if used is not None and used.shape != (rows, columns):
        raise SpecError(f"used has shape {used.shape}; the layer is {rows} x {columns}")
    tiles = []
    for first_row, end_row in _spans(rows, max_rows):
        for first_column, end_column in _spans(columns, max_columns):
            tile: Tile | None = Tile(first_row, end_row, first_column, end_column)
            if used is not None:
                tile = _shrunk(Tile(first_row, end_row, first_column, end_column), used)
            if tile is not None:
                tiles.append(tile)
    return tuple(tiles)


def design_tiles(design: DesignSpec) -> tuple[Tile, ...]:
    """Tiles of a design's layer, as its ``[tiling]`` cuts it; none where it is one array."""
    if design.tiling is None:
        return ()
    sizes = design.sizes
    return _cut_once(sizes.inputs + 1 + sizes.states, sizes.states, design.tiling.rows, design.tiling.columns)


@cache
def _cut_once(rows: int, columns: int, max_rows: int, max_columns: int) -> tuple[Tile, ...]:
    return cut(rows, columns, max_rows, max_columns)


def check_tiles(tiles: Sequence[Tile], rows: int, columns: int) -> Array:
    """(rows, columns), true where a device is.

    SpecError for tiles that overlap, lie outside, or leave a column bare.
    """
    covered = np.zeros((rows, columns), dtype=int)
    for tile in tiles:
        inside = 0 <= tile.first_row < tile.end_row <= rows and 0 <= tile.first_column < tile.end_column <= columns
        if not inside:
            raise SpecError(f"{tile} is not a rectangle inside {rows} x {columns}")
        covered[tile.rows, tile.columns] += 1
    if covered.max(initial=0) > 1:
        row, column = (int(k) for k in np.argwhere(covered > 1)[0])
        raise SpecError(f"two tiles hold the device at row {row}, column {column}")
    bare = np.flatnonzero(~covered.any(axis=0))
    if len(bare):
        raise SpecError(f"column {int(bare[0])} is in no tile; every summing node needs a device")
    return covered.astype(bool)


def _spans(length: int, most: int) -> list[tuple[int, int]]:
    count = -(-length // most)
    ends = [round(length * k / count) for k in range(count + 1)]
    return list(pairwise(ends))


def _shrunk(tile: Tile, used: Array) -> Tile | None:
    inside = used[tile.rows, tile.columns]
    if not inside.any():
        return None
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return Tile(
        tile.first_row + int(rows[0]), tile.first_row + int(rows[-1]) + 1,
        tile.first_column + int(columns[0]), tile.first_column + int(columns[-1]) + 1,
    )  # fmt: skip
