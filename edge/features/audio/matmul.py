"""Matrix products whose bits do not depend on how a signal was cut.

In most BLAS libraries the last bits of a row of a product depend on how many rows are computed at once and on the row's
place among them. `Product` asks this machine's library, for this matrix, which numbers of rows agree with each other in
every place, and computes only such numbers: any chunking of a signal then gives the same bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MatmulStep = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

_SIZES = (1, 2, 4, 8, 12, 16, 24, 48)
_TRIALS = 8  # of both signs, which cancel: three positive ones missed that two rows differ from four in one column of 41


class ChunkInvariantMatmul:
    """rows [chunk, k] @ matrix [k, m] -> out [chunk, m], for the first `count` rows at a time.

    Rows behind `count` may be computed as well: what they hold does not matter, as long as it is finite.
    """

    def __init__(self, matrix: NDArray[Any], chunk: int) -> None:
        self._matrix = np.ascontiguousarray(matrix)
        self._rows = _invariant_batch_sizes(*matrix.shape, chunk, self._matrix.dtype.str)

    def plan(self, rows: NDArray[Any], out: NDArray[Any], count: int) -> list[MatmulStep]:
        """Return the products to compute, as (rows, matrix, out) views: do them with `np.dot(rows, matrix, out)`."""
        size = self._rows[count]
        return [(rows[at : at + size], self._matrix, out[at : at + size]) for at in range(0, count, size)]


@lru_cache(maxsize=32)
def _invariant_batch_sizes(inner: int, columns: int, chunk: int, dtype: str) -> tuple[int, ...]:
    """Return for each count 0..chunk how many rows to compute at once; all of them give the same bits in every place."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((inner, columns)).astype(dtype)
    samples = [rng.standard_normal(inner).astype(dtype) for _ in range(_TRIALS)]

    groups: dict[bytes, list[int]] = {}
    for size in (size for size in _SIZES if chunk % size == 0):
        products = [np.dot(np.tile(sample, (size, 1)), matrix) for sample in samples]
        if all((product == product[0]).all() for product in products):
            groups.setdefault(b"".join(product[0].tobytes() for product in products), []).append(size)
    sizes = max(groups.values(), key=len)
    return tuple(next((size for size in sizes if size >= count), sizes[-1]) for count in range(chunk + 1))
