"""SymmetricMatrix: one triangle of a symmetric matrix, and linear systems solved inside it.

NumPy only. Half of the entries are kept, and a system is solved in their place. `np.linalg.solve`
would hold three more copies of the matrix, in float64 even where it is float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK = 256  # rows of a panel, so that what is updated together stays in the CPU cache


class SymmetricMatrix:
    """A symmetric (d, d) float32 matrix as panels of rows, from the diagonal to the right.

    Attributes:
        width: d.
        panels: (rows, d - first row) float32. The block on the diagonal is whole.
    """

    def __init__(self, width: int, panels: list[np.ndarray] | None = None) -> None:
        """Start with zeros, or with panels that are taken as they are."""
        self.width = width
        starts = range(0, width, _BLOCK)
        if panels is None:
            panels = [np.zeros((min(_BLOCK, width - i), width - i), np.float32) for i in starts]
        self.panels = panels

    def starts(self) -> Iterator[tuple[int, np.ndarray]]:
        """Return the first row of each panel, and the panel."""
        return zip(range(0, self.width, _BLOCK), self.panels, strict=True)

    def copy(self) -> SymmetricMatrix:
        """Return an independent copy."""
        return SymmetricMatrix(self.width, [panel.copy() for panel in self.panels])

    def add_products(self, samples: np.ndarray, factor: float) -> None:
        """Add the products of samples (n, d) with themselves, in half as many MACs as a matrix."""
        for start, panel in self.starts():
            own = samples[:, start : start + len(panel)]
            panel += (factor * own).T @ samples[:, start:]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return whole rows (n, d)."""
        out = np.empty((len(index), self.width), np.float32)
        for start, panel in self.starts():
            end = start + len(panel)
            inside = (index >= start) & (index < end)
            out[inside, start:] = panel[index[inside] - start]
            below = index >= end
            out[below, start:end] = panel[:, index[below] - start].T
        return out

    def triangle(self) -> np.ndarray:
        """Return the entries on and above the diagonal, row by row: (d * (d + 1) / 2,)."""
        return np.concatenate([row[i:] for panel in self.panels for i, row in enumerate(panel)])

    @classmethod
    def from_triangle(cls, width: int, triangle: np.ndarray) -> SymmetricMatrix:
        """Restore what `triangle` returned."""
        matrix, at = cls(width), 0
        for _, panel in matrix.starts():
            for i, row in enumerate(panel):
                row[i:] = triangle[at : at + len(row) - i]
                at += len(row) - i
            lower = np.tril_indices(len(panel), -1)
            panel[lower] = panel.T[lower]
        return matrix

    def diagonal(self) -> np.ndarray:
        """Return the diagonal (d,)."""
        return np.concatenate([np.diagonal(panel) for panel in self.panels])

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solve this system for right-hand sides (d, n), by Cholesky's method, and use it up.

        Costs d^3 / 6 multiply-adds. Blocks on the diagonal are factorised in float64.

        Returns:
            The solution, (d, n) float32.

        Raises:
            numpy.linalg.LinAlgError: the matrix is not positive definite.
        """
        solution, inverses = np.array(right, np.float32), list[np.ndarray]()
        for at, (start, panel) in enumerate(self.starts()):
            n = len(panel)
            factor = np.linalg.cholesky(panel[:, :n].astype(np.float64))
            inverses.append(np.linalg.inv(factor).astype(np.float32))
            panel[:, n:] = inverses[-1] @ panel[:, n:]
            for first, other in list(self.starts())[at + 1 :]:
                above = panel[:, first - start :]
                other -= above[:, : len(other)].T @ above
            solution[start : start + n] = inverses[-1] @ solution[start : start + n]
            solution[start + n :] -= panel[:, n:].T @ solution[start : start + n]
        for (start, panel), inverse in reversed(list(zip(self.starts(), inverses, strict=True))):
            n = len(panel)
            solution[start : start + n] -= panel[:, n:] @ solution[start + n :]
            solution[start : start + n] = inverse.T @ solution[start : start + n]
        return solution
