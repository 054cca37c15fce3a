"""Layers larger than one array, and convolutions: tiles, their exact reduction, and digital partial sums.

See docs/large_networks.md. A tiled layer is a :class:`~analog_deq.reduction.PortAdmittance` like any other array, so
the whole of verify works on it (``LoweredNetwork(..., tiles=...)``), with the flat deck of every tile as the referee.
"""

from analog_deq.tiling.convolution import patches, unrolled, unrolled_mask
from analog_deq.tiling.partial_sums import Converter, PartialSums, partial_sums
from analog_deq.tiling.plan import Tile, check_tiles, cut, design_tiles
from analog_deq.tiling.ports import layer_admittance, reduce_tiles

__all__ = [
    "Converter", "PartialSums", "Tile", "check_tiles", "cut", "design_tiles", "layer_admittance", "partial_sums",
    "patches", "reduce_tiles", "unrolled", "unrolled_mask",
]  # fmt: skip
