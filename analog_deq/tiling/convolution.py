"""Convolutions as crossbars: the unrolled matrix of a continuous-time layer, and the shared one of a time-multiplexed.

All states of an equilibrium network are there at once, so a convolution that feeds them back must be *unrolled*:
every output position has a column of its own and the kernel is programmed once a position, a doubly block-Toeplitz
matrix whose zeros need no device (:func:`analog_deq.tiling.plan.cut` with ``used``). The *shared* form holds the kernel
once, C_in k k rows by C_out columns, and reads one patch (im2col) after the other; it serves what a DAC drives, such as
the input's convolution, computed before the network settles.
"""

from __future__ import annotations

import numpy as np

from analog_deq.errors import SpecError

Array = np.ndarray


def unrolled(kernel: Array, height: int, width: int) -> Array:
    """Matrix (C_out H W, C_in H W) of a "same" convolution with ``kernel`` (C_out, C_in, k, k), k odd, zeros outside.

    As machine-learning libraries do it, without turning the kernel over. Maps are flattened channel by channel, row by
    row. SpecError for an even or a rectangular kernel.

    >>> unrolled(np.ones((1, 1, 3, 3)), 1, 2)
    array([[1., 1.],
           [1., 1.]])
    """
    c_out, c_in, reach = _checked(kernel)
    matrix = np.zeros((c_out, height, width, c_in, height, width))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            for row in range(max(0, -dy), min(height, height - dy)):
                columns = np.arange(max(0, -dx), min(width, width - dx))
                matrix[:, row, columns, :, row + dy, columns + dx] = kernel[:, :, dy + reach, dx + reach]
    return matrix.reshape(c_out * height * width, c_in * height * width)


def unrolled_mask(kernel: Array, height: int, width: int) -> Array:
    """True where :func:`unrolled` has an entry of the kernel, be it 0: where the layer has devices."""
    return unrolled(np.ones_like(kernel), height, width) != 0


def patches(maps: Array, size: int) -> Array:
    """im2col: maps (..., C, H, W) as patches (..., H W, C size size), zeros outside; ``size`` is odd.

    ``patches(x, k) @ kernel.reshape(C_out, -1).T`` is the convolution of :func:`unrolled`, position by position.
    """
    if size % 2 == 0:
        raise SpecError(f"a kernel of {size} has no middle; take an odd size")
    reach = size // 2
    height, width = maps.shape[-2:]
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(reach, reach)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(-2, -1))
    places = np.moveaxis(windows, -5, -3)  # (..., H, W, C, k, k)
    return np.ascontiguousarray(places).reshape(*maps.shape[:-3], height * width, -1)


def _checked(kernel: Array) -> tuple[int, int, int]:
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] or kernel.shape[2] % 2 == 0:
        raise SpecError(f"a kernel has the shape (C_out, C_in, k, k) with odd k, not {kernel.shape}")
    return kernel.shape[0], kernel.shape[1], kernel.shape[2] // 2
