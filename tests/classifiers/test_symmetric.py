"""SymmetricMatrix: one triangle, and systems solved inside it."""

import tracemalloc

import numpy as np
import pytest

from plr_edge.classifiers.symmetric import SymmetricMatrix


def covariance_of(samples):
    matrix = SymmetricMatrix(samples.shape[1])
    matrix.add_products(samples, 1.0)
    return matrix


@pytest.mark.parametrize("width", [1, 17, 255, 256, 257, 700])
def test_rows_triangle_and_diagonal_are_those_of_the_whole_matrix(width):
    rng = np.random.default_rng(width)
    samples = rng.standard_normal((40, width)).astype(np.float32)
    matrix, whole = covariance_of(samples), samples.T @ samples
    index = rng.integers(0, width, 30)
    np.testing.assert_allclose(matrix.rows(index), whole[index], atol=1e-4)
    np.testing.assert_allclose(matrix.diagonal(), np.diag(whole), atol=1e-4)
    np.testing.assert_allclose(matrix.triangle(), whole[np.triu_indices(width)], atol=1e-4)
    again = SymmetricMatrix.from_triangle(width, matrix.triangle())
    np.testing.assert_allclose(again.rows(np.arange(width)), whole, atol=1e-4)


@pytest.mark.parametrize("width", [1, 17, 256, 257, 700])
@pytest.mark.parametrize("n", [3, 1000])
def test_a_system_is_solved_as_numpy_solves_it(width, n):
    rng = np.random.default_rng(width)
    samples = rng.standard_normal((n, width)).astype(np.float32) / np.sqrt(n)
    matrix, right = covariance_of(samples), rng.standard_normal((width, 4)).astype(np.float32)
    matrix.add_products(np.eye(width, dtype=np.float32), 0.2)
    whole = matrix.rows(np.arange(width)).astype(np.float64)
    found = matrix.copy().solve(right)
    expected = np.linalg.solve(whole, right)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_copy_is_independent_and_samples_can_be_taken_out():
    samples = np.random.default_rng(0).standard_normal((20, 300)).astype(np.float32)
    matrix = covariance_of(samples)
    other = matrix.copy()
    other.add_products(samples[:8], -1.0)
    rows = np.arange(300)
    np.testing.assert_allclose(other.rows(rows), samples[8:].T @ samples[8:], atol=1e-4)
    np.testing.assert_allclose(matrix.rows(rows), samples.T @ samples, atol=1e-4)


def test_solving_holds_less_than_a_second_copy_of_the_triangle():
    """The large blocks of numpy are traced; `np.linalg.solve` would hold 24 bytes an entry."""
    matrix = SymmetricMatrix(3000)
    matrix.add_products(np.eye(3000, dtype=np.float32), 1.0)
    tracemalloc.start()
    matrix.solve(np.ones((3000, 4), np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18e6  # its triangle has 20 MB


def test_a_matrix_that_is_not_positive_definite_is_refused():
    matrix = SymmetricMatrix(2)
    matrix.add_products(np.array([[1.0, 2.0]], np.float32), -1.0)
    with pytest.raises(np.linalg.LinAlgError):
        matrix.solve(np.ones((2, 1), np.float32))
