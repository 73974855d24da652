"""Matrix products that are bit-identical for any chunking of a signal.

In most BLAS libraries, the last bits of a row of a product depend on the number of rows computed at once and on the position
of the row among them. `ChunkInvariantMatmul` tests, with this machine's library and this matrix shape, which batch sizes give
the same bits at every position, and uses only these sizes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MatmulStep = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

_SIZES = (1, 2, 4, 8, 12, 16, 24, 48)
# Random rows with values of both signs, so that terms cancel. Three rows of positive values did not detect that batches of two
# and of four rows differ in one column of 41.
_TRIALS = 8


class ChunkInvariantMatmul:
    """The product rows [chunk, k] @ matrix [k, m] -> out [chunk, m] of the first `count` rows.

    Rows after `count` may be computed as well. Their values do not matter, but they must be finite.
    """

    def __init__(self, matrix: NDArray[Any], chunk: int) -> None:
        self._matrix = np.ascontiguousarray(matrix)
        self._batch_sizes = _invariant_batch_sizes(*matrix.shape, chunk, self._matrix.dtype.str)

    def plan(self, rows: NDArray[Any], out: NDArray[Any], count: int) -> list[MatmulStep]:
        """Return the steps as (rows, matrix, out) views. The caller computes each as `np.dot(rows, matrix, out)`."""
        size = self._batch_sizes[count]
        return [(rows[start : start + size], self._matrix, out[start : start + size]) for start in range(0, count, size)]


@lru_cache(maxsize=32)
def _invariant_batch_sizes(inner: int, columns: int, chunk: int, dtype: str) -> tuple[int, ...]:
    """Return the batch size for each row count 0..chunk. All batch sizes give the same bits at every row position."""
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
