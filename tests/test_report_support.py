"""What is said of a data set's posterior mean: the report's chart on laws known in closed form, and a run's costs."""

import dataclasses
import math
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from equisct import DenoiserVelocity, ReferenceVelocity
from equisct.app import methods, presets
from equisct.app.cli import report_support
from equisct.app.cli.report_support import support_charts
from equisct.app.parts.posterior import held_in_words
from equisct.app.report import Group, RunRows
from equisct.app.settings.data import Npz
from equisct.data import ImageSet, VectorSet
from equisct.diagnostics import Support
from equisct.oracle import Empirical
from equisct.train import data_mesh
from strategies import untyped

GAP = 6.0
"""Between the two points of a set: from level 3 on, about, both stand behind a mean."""
TWO = VectorSet(np.array([[0.0, 0.0], [GAP, 0.0]], np.float32), name="two")
ICT, LAW = methods.ICT(), (-1.1, 2.0)


def of(method: Any = ICT, dataset: Any = TWO, label="mine", **data):
    """A group of one run, and its model and data as the report has them."""
    config = dataclasses.replace(presets.NPZ, method=method, data=dataclasses.replace(Npz(), **data))
    loaded = types.SimpleNamespace(stored=types.SimpleNamespace(config=config), dataset=dataset)
    return Group(label, {}, (RunRows(label, {}),)), loaded


def chart_of(*pairs):
    (chart,) = support_charts([group for group, _ in pairs], untyped({group.label: own for group, own in pairs}))
    return chart


def overlap(sigma):
    """Of two points, on many noised samples of both: samples behind the mean, and its share of the noise's variance.

    In one coordinate, with `s = z + GAP / sigma` or `z`: the other point's posterior is a logistic function.
    """
    z = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    other = 1 / (1 + np.exp(np.clip((GAP**2 + 2 * GAP * sigma * z) / (2 * sigma**2), -700, 700)))
    return np.mean(1 / (other**2 + (1 - other) ** 2)), np.mean((GAP * other / sigma) ** 2) / 2


def test_the_chart_holds_what_two_points_have_in_closed_form(monkeypatch):
    monkeypatch.setattr(report_support, "WORK", 10**9)
    monkeypatch.setattr(report_support, "DRAWN", 50_000)
    counts, shares, _ = chart_of(of()).panels
    levels = np.asarray(counts.lines[0].x)
    np.testing.assert_allclose(levels[[0, -1]], [0.002, 80], rtol=1e-5)
    expected = np.array([overlap(sigma) for sigma in levels.astype(np.float64)]).T
    np.testing.assert_allclose(counts.lines[0].y, expected[0], rtol=0.02)
    np.testing.assert_allclose(shares.lines[0].y, expected[1], rtol=0.03, atol=0.01)


def test_levels_of_training_are_those_of_the_law_between_its_ends():
    line = chart_of(of()).panels[2].lines[0]
    low, high = (stats.norm.cdf((math.log(end) - LAW[0]) / LAW[1]) for end in (0.002, 80))
    exact = (stats.norm.cdf((np.log(np.asarray(line.x)) - LAW[0]) / LAW[1]) - low) / (high - low)
    np.testing.assert_allclose(line.y, exact, atol=1e-6)
    assert [panel.title for panel in chart_of(of(methods.DDPM())).panels] == [
        "Samples behind the posterior mean", "Noise that it takes away"
    ]  # fmt: skip


def test_in_words_it_says_where_two_samples_stand_and_how_much_of_training_that_is():
    """Four samples at the last of three levels, so two half-way between it and the one before, on a log scale."""
    found = Support(jnp.array([0.002, 0.5, 80.0]), jnp.array([1.0, 1.0, 4.0]), jnp.array([0.0, 0.0, 0.5]))
    level = math.sqrt(0.5 * 80)
    assert math.isclose(report_support._level_of_two(found) or 0, level, rel_tol=1e-5)
    law = report_support._Law(*LAW, 0.002, 80.0)
    middle = law.below(np.array([0.002, 0.5, 80.0]))[1]
    said = report_support._in_numbers({0: ("mine", found)}, {law: "mine"})
    above = (1 - middle) / 2  # of a share that grows evenly between two of the levels
    assert f"above level {level:.2g}, where {above:.0%} of the levels" in said
    assert f"it takes {(1 - middle) / 4:.1%} of the noise's variance" in said
    alone = Support(found.levels, jnp.ones(3), jnp.zeros(3))
    assert report_support._in_numbers({0: ("mine", alone)}, {law: "mine"}) == "Never do two samples stand behind it."


VELOCITIES = {
    "This run follows the noise of one sample; --method.velocity posterior would follow the mean.": ICT,
    "This run follows this mean (method.velocity posterior).": methods.ICT(velocity="posterior"),
    "This run follows the mean over 50 of the samples (method.references), which takes less.": methods.ICT(
        velocity="posterior", references=50
    ),
}


@pytest.mark.parametrize("words", VELOCITIES)
def test_the_caption_says_what_the_run_follows(words):
    assert chart_of(of(VELOCITIES[words])).caption.endswith(words)
    assert "This run" not in chart_of(of(methods.DDPM())).caption


def test_runs_on_one_set_are_one_line_and_sets_are_told_apart(monkeypatch):
    measured = []
    whole = report_support.measure_support
    monkeypatch.setattr(report_support, "measure_support", lambda *a, **k: measured.append(1) or whole(*a, **k))
    exact = methods.ICT(velocity="posterior")
    chart = chart_of(of(label="a"), of(exact, label="b"))
    assert (len(measured), [len(panel.lines) for panel in chart.panels], chart.legend) == (1, [1, 1, 1], {})
    assert "a follows the noise of one sample" in chart.caption
    assert "b follows this mean" in chart.caption
    other = VectorSet(np.eye(2, dtype=np.float32), name="other")
    chart = chart_of(of(label="a"), of(label="b", dataset=other))
    assert [[line.label for line in panel.lines] for panel in chart.panels] == [["a", "b"], ["a", "b"], ["all"]]


def test_mirrored_images_count_and_large_sets_are_left_out(monkeypatch):
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), np.uint8), name="images")
    ends = {flip: chart_of(of(dataset=images, flip=flip)).panels[0].lines[0].y[-1] for flip in (False, True)}
    np.testing.assert_allclose([ends[False], ends[True]], [8, 16], rtol=0.01)
    monkeypatch.setattr(report_support, "LARGEST", 8 * 16)
    group, own = of(dataset=images, flip=True)
    assert support_charts([group], untyped({group.label: own})) == []


def test_costs_of_a_run_are_those_of_what_its_objective_holds():
    mesh, points = data_mesh(1), jnp.zeros((1000, 3, 8, 8)).at[0].set(1.0)
    law = Empirical(points)
    own = ("velocity", DenoiserVelocity(law.denoise)), ("target", law.denoise)
    said = held_in_words(dict(own), mesh)
    assert said.startswith("1,000 samples in memory, 0.7 MiB per device")  # once, though held by two
    assert "each mean over 1,000 of them takes 0.00077 GFLOP" in said
    assert "the work below" not in said
    many = held_in_words({"velocity": Empirical(jnp.zeros((5000, 2)).at[0].set(1.0))}, mesh)
    assert many.endswith("per sample (the work below counts 4,096 of them)")
    few = held_in_words(ReferenceVelocity(points, 50), mesh)
    assert "each mean over 50 of them takes 3.8e-05 GFLOP" in few
    assert held_in_words({"velocity": None}, mesh) == ""
