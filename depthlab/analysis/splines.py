"""Confounds as columns of a regression: splines, so that depth need be no straight line in any of them."""

import numpy as np
import pandas as pd

from depthlab.errors import UserError

KNOTS = 9
"""Inner knots of a confound, at its quantiles."""
PRODUCT_KNOTS = 4
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
            raise UserError("effects with confounds held need SciPy: pip install 'depthlab[statistics]'") from None
        self._spline = BSpline
        self._knots = {name: knots(column.to_numpy(), KNOTS) for name, column in values.items()}
        self._product = {name: knots(values[name].to_numpy(), PRODUCT_KNOTS) for name in product or ()}

    def __call__(self, values: pd.DataFrame) -> dict[str, np.ndarray]:
        """Columns [N, ...] by confound, those of the product by the names of both; together they need not have full rank.

        Values must lie within those that the knots are of.
        """
        design = {name: self._basis(values[name], at) for name, at in self._knots.items()}
        if self._product:
            one, other = (self._basis(values[name], at) for name, at in self._product.items())
            design[" x ".join(self._product)] = (one[:, :, None] * other[:, None]).reshape(len(values), -1)
        return design

    def _basis(self, values: pd.Series, at: np.ndarray) -> np.ndarray:
        return self._spline.design_matrix(values.to_numpy(float), at, DEGREE).toarray()


def knots(values: np.ndarray, inner: int) -> np.ndarray:
    """Quantiles of the values, each once, between the least and the greatest, which a cubic spline has four times."""
    low, *between, high = np.unique(np.quantile(values, np.linspace(0, 1, inner + 2)))
    return np.concatenate([[low] * (DEGREE + 1), between, [high] * (DEGREE + 1)])
