"""Matrix products: right, and the same bits for any number of rows."""

from __future__ import annotations

import numpy as np
import pytest

from moodring.features.audio.matmul import ChunkInvariantMatmul

CHUNK = 48
SHAPES = [(512, 40), (514, 40), (512, 26), (40, 40), (26, 13), (7, 3), (1, 1), (513, 41)]


def multiply(rows: np.ndarray, product: ChunkInvariantMatmul, columns: int, count: int) -> np.ndarray:
    out = np.zeros((CHUNK, columns), rows.dtype)
    for part, matrix, into in product.plan(rows, out, count):
        np.dot(part, matrix, into)
    return out[:count]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_any_number_of_rows_gives_the_product_and_the_bits_of_the_whole(
    shape: tuple[int, int], precision: type, tolerance: float
):
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=shape).astype(precision)
    rows = rng.normal(size=(CHUNK, shape[0])).astype(precision)
    product = ChunkInvariantMatmul(matrix, CHUNK)
    whole = multiply(rows, product, shape[1], CHUNK)
    np.testing.assert_allclose(whole, rows.astype(np.float64) @ matrix, rtol=0, atol=tolerance * np.sqrt(shape[0]))
    for count in range(CHUNK + 1):
        np.testing.assert_array_equal(multiply(rows, product, shape[1], count), whole[:count], err_msg=f"{count} rows")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_gives_the_same_bits_in_every_place(shape: tuple[int, int]):
    rng = np.random.default_rng(2)
    product = ChunkInvariantMatmul(rng.normal(size=shape).astype(np.float32), CHUNK)
    row = rng.normal(size=shape[0]).astype(np.float32)
    out = multiply(np.tile(row, (CHUNK, 1)), product, shape[1], CHUNK)
    np.testing.assert_array_equal(out, np.tile(out[0], (CHUNK, 1)))


def test_a_plan_stays_within_the_chunk_and_covers_what_was_asked():
    rows, out = np.zeros((CHUNK, 64), np.float32), np.zeros((CHUNK, 8), np.float32)
    product = ChunkInvariantMatmul(np.ones((64, 8), np.float32), CHUNK)
    for count in range(CHUNK + 1):
        parts = product.plan(rows, out, count)
        covered = sum(len(part) for part, _, _ in parts)
        assert count <= covered <= CHUNK
        assert all(part.shape[0] == into.shape[0] for part, _, into in parts)


def test_a_matrix_that_does_not_lie_in_rows_is_multiplied_as_any_other():
    matrix = np.random.default_rng(3).normal(size=(8, 64)).astype(np.float32).T
    rows = np.eye(CHUNK, 64, dtype=np.float32)
    np.testing.assert_array_equal(multiply(rows, ChunkInvariantMatmul(matrix, CHUNK), 8, CHUNK), matrix[:CHUNK])
