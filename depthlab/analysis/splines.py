"""Confounds as columns of a regression: splines, so that depth need be no straight line in any of them."""

import numpy as np
import pandas as pd

from depthlab.errors import UserError

KNOTS = 6
"""Inner knots of a confound, at its quantiles."""
PRODUCT_KNOTS = 3
"""Of each of the two whose product is taken."""
DEGREE = 3


class Splines:
    """Cubic B-splines of each confound, and all products of coarser ones of two confounds (a tensor product).

    Args:
        values: [N] rows, a column for each confound: the knots are at quantiles of these.
        product: two of the columns.

    Raises:
        UserError: SciPy is not there.
    """

    def __init__(self, values: pd.DataFrame, product: tuple[str, str] | None = None) -> None:
        try:
            from scipy.interpolate import BSpline
        except ImportError:
            raise UserError("effects with confounds held need SciPy: pip install 'depthlab[report]'") from None
        self._spline = BSpline
        self._knots = {name: knots(column.to_numpy(), KNOTS) for name, column in values.items()}
        self._product = {name: knots(values[name].to_numpy(), PRODUCT_KNOTS) for name in product or ()}

    def __call__(self, values: pd.DataFrame) -> dict[str, np.ndarray]:
        """Columns [N, ...] by confound, those of the product by the names of both; together they may lack full rank.

        Values must lie within those that the knots are of.
        """
        design = {name: self._basis(values[name], at) for name, at in self._knots.items()}
        if self._product:
            one, other = (self._basis(values[name], at) for name, at in self._product.items())
            design[" x ".join(self._product)] = (one[:, :, None] * other[:, None]).reshape(len(values), -1)
        return design

    def change(self, values: pd.DataFrame, name: str, low: float, high: float) -> np.ndarray:
        """How the mean of each column changes when a confound goes from `low` to `high`, whatever the others are."""

        def step(at: np.ndarray) -> np.ndarray:
            return np.diff(self._basis(pd.Series([low, high]), at), axis=0)[0]

        changes = [step(at) if other == name else np.zeros(len(at) - DEGREE - 1) for other, at in self._knots.items()]
        if self._product:
            one, other = (
                step(at) if own == name else self._basis(values[own], at).mean(axis=0)
                for own, at in self._product.items()
            )
            changes.append(np.outer(one, other).ravel() * (name in self._product))
        return np.concatenate(changes)

    def _basis(self, values: pd.Series, at: np.ndarray) -> np.ndarray:
        return self._spline.design_matrix(values.to_numpy(float), at, DEGREE).toarray()


def knots(values: np.ndarray, inner: int) -> np.ndarray:
    """Quantiles of the values, each once, between the least and the greatest, which a cubic spline has four times."""
    low, *between, high = np.unique(np.quantile(values, np.linspace(0, 1, inner + 2)))
    return np.concatenate([[low] * (DEGREE + 1), between, [high] * (DEGREE + 1)])
