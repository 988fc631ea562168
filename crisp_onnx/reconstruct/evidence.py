"""What is known of a layer's inputs X (m, K) and outputs Y (m, Cout): enough to solve for its weights on any support.

Memory depends on the layer's widths alone. `Sums` holds X^T X and X^T Y; a layer too wide for that keeps some `Rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

WIDEST = 6144
"""Columns up to which X^T X is held: 300 MB in float64."""
ROWS_OF_WIDE = 1024
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 4096, 256
"""Rows that are multiplied in float32 before they are added to the sums: each addition passes over all of X^T X."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and variance (channels,) of a tensor, in float64."""

    mean: Tensor
    variance: Tensor


class Evidence(Protocol):
    """X and Y are taken about their means, which are zeros where nothing is centred."""

    @property
    def mean_x(self) -> Tensor:
        """(K,) in float64."""

    @property
    def mean_y(self) -> Tensor:
        """(Cout,) in float64."""

    @property
    def spread_y(self) -> Tensor:
        """(Cout,): mean squares of Y about its means."""

    @property
    def scale(self) -> float:
        """Mean square of the columns of X, which a ridge is a share of."""

    @property
    def squares(self) -> Tensor:
        """(K,): mean squares of the columns of X."""

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """X^T X / m (K, K) and X^T Y / m (K, Cout) in float64; None where they are not held."""

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in some rows, in float32."""

    def solutions(self, support: Tensor, rows: slice, old: Tensor, ridges: Sequence[float]) -> list[Tensor]:
        """For each ridge, the w (rows, |Q|) of least `mean |X_Q w - y|^2 + ridge |w - old|^2`.

        `support`: the columns Q, int64. `rows`: the outputs to solve for. `old`: (rows, |Q|) in float64.
        """

    def spread(self, weight: Tensor) -> Tensor:
        """(Cout,): mean squares of X W^T about its means, for a weight (Cout, K) in float64."""


def evidence(columns: int, outputs: int, *, centred: bool, device: torch.device) -> Evidence:
    """An empty one, of the kind that fits the width."""
    kind: type[Sums] | type[Rows] = Sums if columns <= WIDEST else Rows
    return kind(columns, outputs, centred=centred, device=device)


class Sums:
    """X^T X, X^T Y and Y^2 in float64, about the means of the first rows, so that large means cost no digits."""

    def __init__(self, columns: int, outputs: int, *, centred: bool, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.centred, self.count = centred, 0
        self._x, self._y, self._yy = zeros(columns), zeros(outputs), zeros(outputs)
        self._xx, self._xy = zeros(columns, columns), zeros(columns, outputs)
        self._origin_x, self._origin_y = torch.zeros(columns, device=device), torch.zeros(outputs, device=device)
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, x: Tensor, y: Tensor) -> None:
        if self.centred and not self.count:
            self._origin_x, self._origin_y = x.mean(0), y.mean(0)
        self.count += len(x)
        self._waiting.append((x - self._origin_x, y - self._origin_y))
        if sum(len(rows) for rows, _ in self._waiting) >= ROWS_AT_ONCE:
            self._add_up()

    @property
    def mean_x(self) -> Tensor:
        self._add_up()
        return self._origin_x + self._offset(self._x)

    @property
    def mean_y(self) -> Tensor:
        self._add_up()
        return self._origin_y + self._offset(self._y)

    @property
    def spread_y(self) -> Tensor:
        self._add_up()
        return (self._yy / self.count - self._offset(self._y).square()).clamp_min(0)

    @property
    def squares(self) -> Tensor:
        self._add_up()
        return self._xx.diagonal() / self.count - self._offset(self._x).square()

    @property
    def scale(self) -> float:
        return float(self.squares.mean())

    def moments(self) -> tuple[Tensor, Tensor]:
        self._add_up()
        mean_x, mean_y = self._offset(self._x), self._offset(self._y)
        return self._xx / self.count - mean_x[:, None] * mean_x, self._xy / self.count - mean_x[:, None] * mean_y

    def solutions(self, support: Tensor, rows: slice, old: Tensor, ridges: Sequence[float]) -> list[Tensor]:
        self._add_up()
        mean_x, mean_y = self._offset(self._x)[support], self._offset(self._y)[rows]
        gram = self._xx[support[:, None], support] / self.count - mean_x[:, None] * mean_x
        cross = self._xy[support, rows] / self.count - mean_x[:, None] * mean_y
        eye = torch.eye(len(support), dtype=gram.dtype, device=gram.device)
        return [
            torch.cholesky_solve(cross + ridge * old.T, torch.linalg.cholesky(gram + ridge * eye)).T for ridge in ridges
        ]

    def spread(self, weight: Tensor) -> Tensor:
        self._add_up()
        product, mean = weight @ self._xx / self.count, weight @ self._offset(self._x)
        return ((product * weight).sum(1) - mean.square()).clamp_min(0)

    def _add_up(self) -> None:
        if not self._waiting:
            return
        x, y = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        self._x += x.sum(0, dtype=torch.float64)
        self._y += y.sum(0, dtype=torch.float64)
        self._yy += y.double().square().sum(0)
        self._xx += _products(x)
        self._xy += x.T @ y

    def _offset(self, total: Tensor) -> Tensor:
        """Means about the origin, which centring takes away."""
        return total / self.count if self.centred else torch.zeros_like(total)


def _products(x: Tensor) -> Tensor:
    """X^T X (K, K) of rows (m, K): blocks up to the diagonal, the others mirrored, for 0.6 of the work."""
    columns = x.shape[1]
    found = torch.empty(columns, columns, dtype=x.dtype, device=x.device)
    for start in range(0, columns, COLUMNS_AT_ONCE):
        end = min(columns, start + COLUMNS_AT_ONCE)
        found[:end, start:end] = x[:, :end].T @ x[:, start:end]
        found[start:end, :start] = found[:start, start:end].T
    return found


class Rows:
    """Rows themselves, at most `ROWS_OF_WIDE`: fewer than the columns, so that the dual problem is the small one."""

    def __init__(self, columns: int, outputs: int, *, centred: bool, device: torch.device) -> None:
        self.centred = centred
        self._x, self._y = torch.zeros(0, columns, device=device), torch.zeros(0, outputs, device=device)

    def add(self, x: Tensor, y: Tensor) -> None:
        room = ROWS_OF_WIDE - len(self._x)
        self._x, self._y = torch.cat([self._x, x[:room]]), torch.cat([self._y, y[:room]])

    @property
    def mean_x(self) -> Tensor:
        return self._x.double().mean(0) if self.centred else torch.zeros_like(self._x[0], dtype=torch.float64)

    @property
    def mean_y(self) -> Tensor:
        return self._y.double().mean(0) if self.centred else torch.zeros_like(self._y[0], dtype=torch.float64)

    @property
    def spread_y(self) -> Tensor:
        return (self._y - self.mean_y).square().mean(0)

    @property
    def squares(self) -> Tensor:
        return (self._x - self.mean_x.float()).square().mean(0, dtype=torch.float64)

    @property
    def scale(self) -> float:
        return float(self.squares.mean())

    def moments(self) -> None:
        return None

    def solutions(self, support: Tensor, rows: slice, old: Tensor, ridges: Sequence[float]) -> list[Tensor]:
        x = self._x[:, support] - self.mean_x[support]
        missed = self._y[:, rows] - self.mean_y[rows] - x @ old.T
        products, eye = x @ x.T, torch.eye(len(x), dtype=x.dtype, device=x.device)
        found = []
        for ridge in ridges:
            factor = torch.linalg.cholesky(products + len(x) * ridge * eye)
            found.append(old + torch.cholesky_solve(missed, factor).T @ x)
        return found

    def spread(self, weight: Tensor) -> Tensor:
        return ((self._x - self.mean_x.float()) @ weight.float().T).square().mean(0, dtype=torch.float64)
