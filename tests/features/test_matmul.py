"""Matrix products: correct, and bit-identical for any number of rows."""

from __future__ import annotations

import numpy as np
import pytest

from moodring.features.audio.matmul import ChunkInvariantMatmul

CHUNK = 48
SHAPES = [(512, 40), (514, 40), (512, 26), (40, 40), (26, 13), (7, 3), (1, 1), (513, 41)]


def multiply(rows: np.ndarray, product: ChunkInvariantMatmul, columns: int, count: int) -> np.ndarray:
    out = np.zeros((CHUNK, columns), rows.dtype)
    for batch, matrix, batch_out in product.plan(rows, out, count):
        np.dot(batch, matrix, batch_out)
    return out[:count]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_any_number_of_rows_gives_the_bits_of_the_whole_product(shape: tuple[int, int], precision: type, tolerance: float):
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=shape).astype(precision)
    rows = rng.normal(size=(CHUNK, shape[0])).astype(precision)
    product = ChunkInvariantMatmul(matrix, CHUNK)
    whole = multiply(rows, product, shape[1], CHUNK)
    np.testing.assert_allclose(whole, rows.astype(np.float64) @ matrix, rtol=0, atol=tolerance * np.sqrt(shape[0]))
    for count in range(CHUNK + 1):
        np.testing.assert_array_equal(multiply(rows, product, shape[1], count), whole[:count], err_msg=f"{count} rows")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_row_gives_the_same_bits_at_every_position(shape: tuple[int, int]):
    rng = np.random.default_rng(2)
    product = ChunkInvariantMatmul(rng.normal(size=shape).astype(np.float32), CHUNK)
    row = rng.normal(size=shape[0]).astype(np.float32)
    out = multiply(np.tile(row, (CHUNK, 1)), product, shape[1], CHUNK)
    np.testing.assert_array_equal(out, np.tile(out[0], (CHUNK, 1)))


def test_plan_covers_the_rows_and_stays_within_the_chunk():
    rows, out = np.zeros((CHUNK, 64), np.float32), np.zeros((CHUNK, 8), np.float32)
    product = ChunkInvariantMatmul(np.ones((64, 8), np.float32), CHUNK)
    for count in range(CHUNK + 1):
        steps = product.plan(rows, out, count)
        covered = sum(len(batch) for batch, _, _ in steps)
        assert count <= covered <= CHUNK
        assert all(batch.shape[0] == batch_out.shape[0] for batch, _, batch_out in steps)


def test_column_major_matrix_is_multiplied_correctly():
    matrix = np.random.default_rng(3).normal(size=(8, 64)).astype(np.float32).T
    rows = np.eye(CHUNK, 64, dtype=np.float32)
    np.testing.assert_array_equal(multiply(rows, ChunkInvariantMatmul(matrix, CHUNK), 8, CHUNK), matrix[:CHUNK])
