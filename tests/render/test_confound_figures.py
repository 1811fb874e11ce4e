"""Pictures of what depth goes with: bins against NumPy, and what stands in each panel."""

import io

import numpy as np
import pytest

from depthlab.analysis.confounds import CONFOUNDS, label_effects
from depthlab.errors import UserError
from depthlab.render.confound_figures import BINS, binned_depth, confound_figure, effects_figure
from depthlab.render.figures import COLOURS
from tests.analysis.token_tables import planted_models


@pytest.fixture(scope="module")
def two_models():
    return planted_models()


@pytest.mark.parametrize("confound", CONFOUNDS)
def test_bins(confound, two_models):
    points = binned_depth(two_models, confound)
    for model, of_model in points.groupby("model"):
        rows = two_models[two_models.model == model].dropna(subset=confound).sort_values(confound)
        values, depths = rows[confound].to_numpy(), rows.depth.to_numpy()
        start = 0
        for point in of_model.itertuples():  # one after the other, without gaps
            inside = slice(start, start + point.pieces)
            assert (point.value, point.mean) == pytest.approx((values[inside].mean(), depths[inside].mean()))
            assert start == 0 or values[start - 1] < values[start]
            assert np.isnan(point.low) or point.low - 1e-9 <= point.mean <= point.high + 1e-9
            start += point.pieces
        assert start == len(rows)
        if len(np.unique(values)) <= BINS:
            assert len(of_model) == len(np.unique(values))
        else:
            assert BINS / 2 < len(of_model) <= BINS and of_model.pieces.max() < len(rows) / 5


@pytest.mark.parametrize("confound", CONFOUNDS)
def test_pictures_of_confounds(confound, two_models):
    figure = confound_figure(two_models, confound)
    depth, count = figure.axes
    text, unit, by_doubling = CONFOUNDS[confound]
    assert depth.get_ylabel() == "mean depth (iterations)" and count.get_xlabel() == f"{text} ({unit})"
    assert "pieces" in count.get_ylabel() and (count.get_xscale() == "log") == by_doubling
    models = ["ours", "theirs", "fixed"] if confound != "loss" else ["ours", "fixed"]
    (legend,) = figure.legends
    pieces = {model: (two_models.model == model).sum() for model in models}
    assert [t.get_text() for t in legend.get_texts()] == [f"{model} ({pieces[model]:,} pieces)" for model in models]
    points = binned_depth(two_models, confound)
    for model, line, counted in zip(models, depth.lines, count.lines, strict=True):
        of_model = points[points.model == model]
        np.testing.assert_array_equal(line.get_xydata(), of_model[["value", "mean"]])
        np.testing.assert_array_equal(counted.get_ydata(), of_model.pieces)
        assert line.get_color() == counted.get_color() == COLOURS[models.index(model)]
    figure.savefig(io.BytesIO())


def test_the_picture_of_effects(two_models):
    effects = label_effects(two_models, two_models.upos)
    figure = effects_figure(effects, "part of speech")
    assert [axes.get_title() for axes in figure.axes] == ["ours", "theirs"]
    for axes in figure.axes:
        assert axes.get_xlabel() == "deeper than all others (iterations)"
        of_model = effects.labels[effects.labels.model == axes.get_title()].set_index("label")
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == [f"{label} ({count:,})" for label, count in of_model.pieces.items()]
        points = {container.get_label(): container.lines[0].get_xdata() for container in axes.containers}
        np.testing.assert_array_equal(points["alone"], of_model.alone)
        np.testing.assert_array_equal(points["confounds held"], of_model.held)
    figure.savefig(io.BytesIO())


def test_what_was_not_measured(two_models):
    with pytest.raises(UserError, match=r"loss \(loss of the piece when masked\) was not measured"):
        confound_figure(two_models.assign(loss=np.nan), "loss")
