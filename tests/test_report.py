"""Reports: charts and their data, groups of runs, alignment, the page."""

import csv
import dataclasses
import io
import itertools
import json
import math
import re
import xml.etree.ElementTree as ET

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from equisct import (
    BoundaryPreconditioning,
    ConsistencyModel,
    ConsistencyTraining,
    Constant,
    DDPMTraining,
    DenoisingModel,
    EDMPreconditioning,
    EDMTraining,
    VPPreconditioning,
    VPSchedule,
)
from equisct.app.parts import sampling
from equisct.app.report import (
    Chart,
    Gallery,
    Group,
    Line,
    Panel,
    Picture,
    RunRows,
    Section,
    Table,
    ablation_chart,
    draw_curves,
    draw_panels,
    group_runs,
    losses_chart,
    marginals_chart,
    panel_images,
    read_panel,
    terms_chart,
    throughput_chart,
    training_chart,
    write_chart,
)
from equisct.app.report.chart import COLOURS, FEW, chart_csv, chart_png, dotted, figure_of, number_in_words, panel_svg
from equisct.app.report.grid import Plane
from equisct.app.report.page import page
from equisct.app.report.runs import curve, differences
from equisct.app.settings.config import Noise
from equisct.app.tracking import Window, term_columns, update_from_report
from equisct.diagnostics import measure_alignment
from equisct.nn import TorsoMLP
from equisct.oracle import Empirical, Gaussian
from equisct.train import Recipe, data_mesh, init_state, train_step
from equisct.train.placement import place
from strategies import untyped
from tolerances import FLOAT32_ROUNDING

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6)


def chart_of(*lines, **settings):
    return Chart("name", "Title", "Caption", "alt", (Panel("Panel", "x", "y", lines, **settings),))


# --- charts ---


@given(st.lists(numbers, min_size=1, max_size=3))
def test_the_data_of_a_chart_are_all_of_its_numbers(rows):
    chart = chart_of(*[Line(f"line {i}", range(len(y)), y, y, y) for i, y in enumerate(rows)])
    found = list(csv.DictReader(io.StringIO(chart_csv(chart))))
    assert [float(row["y"]) for row in found] == [value for row in rows for value in row]
    assert {row["panel"] for row in found} == {"Panel"}
    assert [row["low"] for row in found] == [row["y"] for row in found]


def test_files_of_a_chart_are_drawn(tmp_path):
    chart = chart_of(
        Line("a", [0, 1, 2], [1.0, math.nan, 3.0]),
        Line("b", [0, 1, 2], [2.0, 2.0, 4.0], [1.0, 1.0, 3.0], [3.0, 3.0, 5.0], kind="points"),
        Line("c", [0, 1, 2], [1.0, 2.0, 2.0], kind="steps"),
        guides=((1.0, "here"),),
        ticks=((0.0, "zero"), (2.0, "two")),
    )
    assert sorted(path.name for path in write_chart(chart, tmp_path)) == ["name.csv", "name.png", "name.svg"]
    picture = np.asarray(Image.open(tmp_path / "name.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    svg = ET.parse(tmp_path / "name.svg").getroot()
    words = {element.text for element in svg.iter() if element.tag.endswith("text")}
    assert {"here", "zero", "two", "a", "b", "c"} <= words
    assert "#010203" not in (tmp_path / "name.svg").read_text()


NAN = math.nan


@pytest.mark.parametrize(
    ("y", "kind", "expected"),
    [
        ([1.0], "line", [0]),
        ([1.0], "steps", [0]),
        ([NAN, 2.0, NAN], "steps", [1]),
        ([1.0] * 20 + [NAN, 5.0, NAN] + [1.0] * 20, "line", [21]),
        ([1.0, NAN, *[1.0] * 20], "line", [0]),
        ([1.0] * FEW, "line", [*range(FEW)]),
        ([1.0] * (FEW + 1), "line", []),
        ([1.0] * 3, "steps", []),
        ([1.0, NAN, 1.0], "points", [0, 2]),
    ],
)
def test_a_number_that_no_line_reaches_is_a_dot(y, kind, expected):
    """One row, one evaluation, one between gaps: wherever a line is drawn through fewer than two numbers in a row."""
    line = Line("a", range(len(y)), y, kind=kind)
    assert dotted(line) == expected
    if len(y) == 1:
        banded = dataclasses.replace(line, low=[0.5], high=[1.5])
        pixels = np.asarray(Image.open(io.BytesIO(chart_png(chart_of(banded)))).convert("RGB")).reshape(-1, 3)
        own = [int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - np.array(own)).sum(1) < 30).sum() > 60


LONG = "Frechet distance at infinity of a sampler with quite a long name of its own"
WORDY = {
    "long titles beside short ones": chart_of(Line("a", [0, 9], [1.0, 2.0])).panels
    + (Panel(LONG, "update", "samples per second", (Line("b", [0, 400_000], [1e-7, 2e-7]),)),),
    "long labels": tuple(
        Panel(LONG, "noise level", "", (Line(f"{LONG}, {LONG} {i}", [1, 9], [1.0, 2e6]),), xscale="log", yscale="log")
        for i in range(4)
    ),
    "many stages": (
        Panel(
            LONG, "update", "", (Line("a", [0, 100], [0.11, 0.115]),), guides=tuple((i, f"N={i}") for i in range(50))
        ),
        Panel("Loss", "update", "", (Line("b", [12], [-1.0988]),), guides=((0, "first"), (4, "second"))),
        Panel("One", "update", "", (Line("b", [12], [-1.0988]),)),
    ),
}


@pytest.mark.parametrize("name", WORDY)
def test_all_words_of_a_figure_are_inside_it_and_none_lies_on_another(name):
    """Titles, legends, ticks, names of axes, stages; in the file and in the panel of a page."""
    chart = Chart("name", "Title", "", "", WORDY[name])
    for only in (None, 0, 1):
        with figure_of(chart, only) as figure:
            figure.draw_without_rendering()
            texts = list(figure.findobj(lambda a: type(a).__name__ in ("Text", "Annotation")))
            boxes = {}
            for text in texts:
                if text.get_text() and text.get_visible():
                    boxes[text] = text.get_window_extent()
            ticks = {
                label for axis in figure.axes for one in (axis.xaxis, axis.yaxis) for label in one.get_ticklabels()
            }
            known = {tick for axis in figure.axes for one in (axis.xaxis, axis.yaxis) for tick in _shown_ticks(one)}
            boxes = {text: box for text, box in boxes.items() if text not in ticks or text in known}
            width, height = figure.bbox.size
            for text, box in boxes.items():
                said = (text.get_text(), box)
                assert box.x0 >= 0, said
                assert box.y0 >= -1, said
                assert box.x1 <= width + 1, said
                assert box.y1 <= height + 1, said
            if name == "many stages" and only is None:
                assert {"N=0", "first", "second", "12"} <= {text.get_text() for text in boxes}
                assert not {"11.5", "12.5"} & {text.get_text() for text in boxes}
            pairs = itertools.combinations(boxes.items(), 2)
            found = [(a.get_text(), b.get_text()) for (a, one), (b, other) in pairs if _overlap(one, other)]
            assert found == []


def _shown_ticks(one):
    low, high = sorted(one.get_view_interval())
    slack = 1e-9 * (high - low)
    return [tick.label1 for tick in one.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]


def _overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


def test_a_label_has_one_style_in_all_panels_and_a_lone_one_needs_no_legend():
    panels = [Panel(name, "x", "y", tuple(Line(label, [0], [1.0]) for label in labels)) for name, labels in
              {"1": "ab", "2": "cb", "3": "defgh"}.items()]  # fmt: skip
    styles = Chart("n", "T", "", "", tuple(panels)).styles
    assert len(set(styles.values())) == len("abcdefgh")
    assert chart_of(Line("a", [0], [1.0]), Line("a", [1], [1.0])).legend == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (0.05, "0.05"), (-2.5, "-2.5"), (300.0, "300"), (400_000, "400k"), (3e-5, "3e-5"), (2e6, "2e6")],
)
def test_numbers_at_axes_are_short(value, expected):
    assert number_in_words(value) == expected


def test_a_panel_in_a_page_takes_the_pages_colour_and_shares_no_id():
    chart = chart_of(Line("a", [0, 1], [1.0, 2.0], [0.0, 1.0], [2.0, 3.0]), Line("b", [0], [1.0], kind="points"))
    both = dataclasses.replace(chart, panels=chart.panels * 2)
    label = 'the "first" & <only>'
    first, second = (panel_svg(both, i, label) for i in (0, 1))
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for text in (first, second):
        assert "currentColor" in text
        assert "#010203" not in text
        assert not re.search(r'<svg[^>]*\b(width|height)="', text)
        assert "metadata" not in text
        targets = re.findall(r'(?:url\(|href=")#([^)"]+)', text)
        assert targets
        for target in targets:
            assert f'id="{target}"' in text
        assert ET.fromstring(text).attrib.items() >= {"role": "img", "aria-label": label}.items()


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("colour", COLOURS)
def test_lines_can_be_seen_on_light_and_dark_paper(colour):
    """At least 3:1 (WCAG 2.2, 1.4.11)."""
    for paper in ("#ffffff", "#131316"):
        bright, dark = sorted([luminance(colour), luminance(paper)], reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3


# --- runs ---


def run_of(name, seed, weight, *, offset=0.0):
    settings = {"run.seed": seed, "method.head_weight": weight, "method.c": 0.003, "noise.sigma_min": 0.01}
    metrics = [
        {"step": step, "points": 10 * (1 + step // 20), "gradient_norm": step + offset,
         "consistency_per_bin": [None, step, 1.0], "consistency_bin_edges": [1.0, 4.0, 16.0, 64.0],
         "denoising_per_bin": [1.0, 2.0, 3.0], "denoising_bin_edges": [4.0, 16.0, 64.0, 256.0]}
        for step in (10, 20, 30)
    ]  # fmt: skip
    evaluations = [{"step": step, "one-step/frechet_distance": 100 / step + offset} for step in (15, 30)]
    total = {"updates": 15, "skipped": 0, "mean": 1.0, "variance": 2.0 + offset, "cv": 0.1}
    stages = [{"stage": i, "points": 10 * (i + 1), "total": total} for i in (0, 1)]
    speed = [{"step": step, "images_per_second": 5.0 * step} for step in (10, 20, 30)]
    return RunRows(name, settings, metrics, evaluations, stages, speed)


def decides(name):
    return name != "run.seed"


@pytest.fixture
def groups():
    runs = [run_of(f"{w}-{s}", s, w, offset=s) for w in (0.0, 0.3, 1.0) for s in (0, 1, 2)]
    return group_runs(runs, decides)


def test_runs_that_differ_by_their_seed_are_one_group(groups):
    assert [[run.name for run in group.runs] for group in groups][1] == ["0.3-0", "0.3-1", "0.3-2"]
    assert [group.label for group in groups] == ["head_weight 0", "head_weight 0.3", "head_weight 1"]
    assert differences(groups) == {"method.head_weight": [0.0, 0.3, 1.0]}
    alone = group_runs([run_of("mine", 0, 0.3)], decides)
    assert alone[0].label == "mine"


def test_curves_are_mean_and_deviation_over_the_steps_that_all_have(groups):
    found = curve(groups[0], lambda run: run.metrics, "gradient_norm")
    np.testing.assert_array_equal(found.steps, [10, 20, 30])
    np.testing.assert_array_equal(found.mean, [11, 21, 31])
    np.testing.assert_array_equal(found.std, [1, 1, 1])
    shorter = dataclasses.replace(groups[0].runs[1], metrics=groups[0].runs[1].metrics[:2])
    mixed = Group("mixed", {}, (groups[0].runs[0], shorter))
    np.testing.assert_array_equal(curve(mixed, lambda run: run.metrics, "gradient_norm").steps, [10, 20])
    assert len(curve(groups[0], lambda run: run.metrics, "nothing").steps) == 0


def measured(run, *weights):
    """The run with the same figure of other weights too, each a unit larger than the one before."""
    more = [
        row
        | {f"{of}/one-step/frechet_distance": row["one-step/frechet_distance"] + i for i, of in enumerate(weights, 1)}
        for row in run.evaluations
    ]
    return dataclasses.replace(run, evaluations=more)


def test_figures_of_several_weights_share_a_panel_in_one_run_and_stand_apart_in_a_comparison():
    one, other = (measured(run_of(f"{w}", 0, w), "model", "0.05") for w in (0.0, 0.3))
    chart = training_chart(group_runs([one], decides))
    (panel,) = chart.panels[2:]
    assert panel.title == "Fréchet distance ↓, one-step"
    assert [line.label for line in panel.lines] == ["average", "current weights", "average 0.05"]
    np.testing.assert_allclose([line.y[-1] for line in panel.lines], 100 / 30 + np.arange(3))
    assert len({chart.styles[line.label] for line in panel.lines}) == 3
    panels = training_chart(group_runs([one, other], decides)).panels[2:]
    samplers = ("one-step", "one-step, current weights", "one-step, average 0.05")
    assert [panel.title for panel in panels] == [f"Fréchet distance ↓, {each}" for each in samplers]
    assert [len(panel.lines) for panel in panels] == [2, 2, 2]
    np.testing.assert_allclose([panel.lines[1].y[-1] for panel in panels], 100 / 30 + np.arange(3))


def test_figures_hold_what_was_recorded(groups):
    norm, variance, quality = training_chart(groups).panels
    np.testing.assert_array_equal(norm.lines[1].y, [11, 21, 31])
    np.testing.assert_array_equal(variance.lines[0].x, [0, 15, 30])
    np.testing.assert_array_equal(variance.lines[0].y, [3, 3, 3])
    assert variance.guides == ((15, "N=20"),)
    np.testing.assert_allclose(quality.lines[2].y, [100 / 15 + 1, 100 / 30 + 1])
    (ablation,) = ablation_chart(groups).panels
    assert [words for _, words in ablation.ticks] == ["0", "0.3", "1"]
    np.testing.assert_allclose(ablation.lines[0].y, [100 / 30 + 1] * 3)
    np.testing.assert_allclose(ablation.lines[0].low, [100 / 30] * 3)
    losses = losses_chart(groups)
    np.testing.assert_allclose(losses.panels[0].lines[0].x, [2, 8, 32])
    np.testing.assert_allclose(losses.panels[1].lines[0].x, [8, 32, 128])
    np.testing.assert_array_equal(losses.panels[0].lines[0].y, [math.nan, 25, 1])  # rows of the last stage alone
    np.testing.assert_array_equal(throughput_chart(groups).panels[0].lines[0].y, [50, 100, 150])


def test_a_loss_that_a_method_does_not_have_is_not_drawn(groups):
    run = groups[0].runs[0]
    rows = [{name: row[name] for name in row if not name.startswith("consistency")} for row in run.metrics]
    without = dataclasses.replace(groups[0], runs=(dataclasses.replace(run, metrics=rows),))
    assert [panel.title for panel in losses_chart([without]).panels] == ["Denoising loss"]
    titles = {panel.title: len(panel.lines) for panel in losses_chart([without, groups[1]]).panels}
    assert titles == {"Denoising loss": 2, "Consistency loss": 1}


def recorded(objective, model):
    """The rows of two updates of a real objective, as a group of one run."""
    recipe, window = Recipe(objective, optax.sgd(1e-3)), Window()
    state = init_state(recipe, model)
    for step in range(2):
        state, report = train_step(recipe, state, POINTS[:, :2], jr.key(step))
        window.add(update_from_report(report))
    rows = [json.loads(json.dumps(window.row(2, 0)))]
    return group_runs([RunRows("mine", {"run.seed": 0}, rows)], decides)


@pytest.mark.parametrize("name", ["ddpm", "edm", "consistency"])
def test_losses_are_drawn_at_the_levels_of_their_objective(name):
    """DDPM's levels are its schedule's, from 0.01 to 157; the others' those that they were given."""
    network = TorsoMLP(2, 8, depth=1, key=jr.key(0))
    objective, model, ends = {
        "ddpm": (DDPMTraining(), DenoisingModel(network, VPPreconditioning()), VPSchedule().sigmas[[0, -1]]),
        "edm": (
            EDMTraining(sigma_min=0.01, sigma_max=20.0), DenoisingModel(network, EDMPreconditioning()), (0.01, 20.0)
        ),
        "consistency": (
            ConsistencyTraining(curriculum=Constant(11), sigma_min=0.5, sigma_max=4.0),
            ConsistencyModel(network, BoundaryPreconditioning(sigma_min=0.5)), (0.5, 4.0),
        ),
    }[name]  # fmt: skip
    (panel,) = losses_chart(recorded(objective, model)).panels
    edges = np.geomspace(ends[0], ends[1], 9)
    np.testing.assert_allclose(panel.lines[0].x, np.sqrt(edges[1:] * edges[:-1]), rtol=1e-5)
    assert panel.title == ("Consistency loss" if name == "consistency" else "Denoising loss")


def test_terms_of_ones_own_are_drawn(tmp_path):
    def objective(model, batch, step, *, key):
        loss, terms = DDPMTraining()(model, batch, step, key=key)
        return loss, {"mine": -loss, "base": terms, "loss": 2 * loss}

    model = DenoisingModel(TorsoMLP(2, 8, depth=1, key=jr.key(0)), VPPreconditioning())
    (group,) = recorded(objective, model)
    (row,) = group.runs[0].metrics
    assert term_columns(row) == ["base/denoising", "terms/loss", "mine"]
    assert row["mine"] == -row["loss"]
    assert row["terms/loss"] == pytest.approx(2 * row["loss"])
    assert [panel.title for panel in losses_chart([group]).panels] == ["Base/denoising loss"]
    drawn = {panel.title: list(panel.lines[0].y) for panel in terms_chart([group], term_columns(row)).panels}
    assert drawn == {
        "Base/denoising": [row["base/denoising"]],
        "Terms/loss": [row["terms/loss"]],
        "Mine": [row["mine"]],
    }
    for terms in (["mine"], ["base/denoising", "nothing"]):
        draw_curves([row, row | {"step": 4, "mine": None}], terms, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.size[0] > 100


def test_what_is_not_there_leaves_no_chart():
    bare = group_runs([RunRows("bare", {"run.seed": 0}, [{"step": 1, "points": 0}])], decides)
    charts = (training_chart(bare), terms_chart(bare, ["loss"]), ablation_chart(bare), losses_chart(bare))
    assert all(chart.is_empty for chart in (*charts, throughput_chart(bare)))


# --- alignment ---

LEVELS = jnp.array([0.1, 1.0, 10.0])
POINTS = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)


def aligned(f, g, centre=0.0):
    return measure_alignment(f, g, POINTS, LEVELS, centre=jnp.full(3, centre), key=jr.key(0))


def test_a_function_is_aligned_with_itself_and_with_its_multiples():
    own = aligned(lambda x, s: x / s, lambda x, s: 3 * x)
    np.testing.assert_allclose(own.cosine, 1, rtol=FLOAT32_ROUNDING)
    opposite = aligned(lambda x, s: x, lambda x, s: -x)
    np.testing.assert_allclose(opposite.cosine, -1, rtol=FLOAT32_ROUNDING)
    np.testing.assert_array_equal(aligned(lambda x, s: x, lambda x, s: x).gap, 0)


def test_alignment_about_a_point_is_that_of_the_differences_from_it():
    shifted = aligned(lambda x, s: x + 5, lambda x, s: -x + 5, centre=5.0)
    np.testing.assert_allclose(shifted.centred, -1, rtol=FLOAT32_ROUNDING)
    assert np.all(np.asarray(shifted.cosine) > np.asarray(shifted.centred))


def test_a_gaussians_flow_and_posterior_mean_are_apart_by_their_closed_form():
    """Both are multiples of x_t: cosine 1, and a gap of |a - b| times the norm of x_t."""
    law = Gaussian(jnp.zeros(3), jnp.asarray(0.5))
    z = np.asarray(jr.normal(jr.key(0), POINTS.shape))
    found = aligned(law.denoise, lambda x, s: law.transport(x, s, 0.0))
    np.testing.assert_allclose(found.cosine, 1, rtol=1e-5)
    for level, gap in zip(LEVELS.tolist(), found.gap, strict=True):
        x_t = np.asarray(POINTS) + level * z
        a, b = 0.25 / (0.25 + level**2), 0.5 / math.sqrt(0.25 + level**2)
        expected = abs(a - b) * math.sqrt(np.square(x_t).sum(1).mean())
        np.testing.assert_allclose(gap, expected, rtol=1e-4)


def test_the_posterior_mean_of_finite_data_is_a_function_to_align_with():
    exact = eqx.filter_jit(Empirical(POINTS).denoise)
    found = aligned(exact, lambda x, s: x)
    assert found.cosine[0] > 0.95
    assert found.gap[2] > found.gap[0]


# --- pictures of samples ---

TITLES = ("multistep-17, std 0.05, step 1,000,000 of a run with a name", "two-step")
SIZES = [(1, 1, 8, 8), (3, 3, 8, 8), (64, 1, 8, 8), (5, 3, 28, 20), (17, 1, 32, 32), (2, 3, 200, 200)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_images_are_enlarged_by_a_whole_factor_beside_the_data_under_whole_titles(shape, tmp_path):
    """What is read back from the sheet is the images; small ones are large enough to see, no title is cut."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, shape)
    samples = (pixels / 127.5 - 1).astype(np.float32)
    panels = {TITLES[0]: samples, TITLES[1]: samples}
    draw_panels(panels, tmp_path / "a.png", data=-samples, notes={"step": "7"})
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.info["step"] == "7"
        places, found = json.loads(sheet.info["panels"]), np.asarray(sheet)
    assert list(places) == ["data", *TITLES]
    title, panel = read_panel(tmp_path / "a.png")
    assert title == TITLES[0]
    n, c, h, w = shape
    side, rows = math.ceil(math.sqrt(n)), math.ceil(n / math.ceil(math.sqrt(n)))
    scale = next(k for k in range(1, 400) if side * (w * k + max(3, k)) - max(3, k) == panel.width)
    step_down, step_right = h * scale + max(3, scale), w * scale + max(3, scale)
    assert panel.height == rows * step_down - max(3, scale)
    assert max(h, w) * scale >= 56
    for i in range(n):
        top, left = i // side * step_down, i % side * step_right
        shown = np.asarray(panel)[top : top + h * scale, left : left + w * scale]
        np.testing.assert_array_equal(shown[::scale, ::scale], np.broadcast_to(pixels[i].transpose(1, 2, 0), (h, w, 3)))
        np.testing.assert_array_equal(shown, shown[::scale, ::scale].repeat(scale, 0).repeat(scale, 1))
    assert (found[:, -8:] == 255).all()  # a title that is cut in half reaches the edge
    assert (found[: places["data"][1]] < 128).any()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_vectors_are_drawn_over_the_data_on_named_axes(d, tmp_path):
    """Those beyond the data's window are counted, the ones that are not finite too."""
    generator = np.random.default_rng(0)
    data = generator.normal(size=(200, d)).astype(np.float32)
    wild = np.concatenate([data[:50], np.full((3, d), 1e9), np.full((2, d), np.inf), np.full((1, d), np.nan)])
    images = panel_images({"one-step": data[:50], "wild": wild.astype(np.float32)}, data)
    assert list(images) == ["data", "one-step", "wild"]
    one, other = (np.asarray(images[name], np.int64) for name in ("one-step", "wild"))
    grey = lambda pixels: ((pixels == 199) | (pixels == 204)).all(2).sum()
    assert grey(one) > 300 < grey(other)  # the data
    assert (one != other).any()
    draw_panels({"wild": wild.astype(np.float32)}, tmp_path / "a.png")  # without data, too
    alone = Plane(data)
    assert len(alone.names) >= min(d, 2)
    assert alone.names[0] == ("coordinate 1" if d < 3 else alone.names[0])
    assert np.isfinite(alone.reach)
    if d > 2:
        spread = alone(data).std(0)
        assert spread[0] >= spread[1] >= data.std(0).min() * 0.5
        assert "principal component 1 of 5" in alone.names[0]


def test_weights_on_a_mesh_and_in_a_checkpoint_are_drawn_with_by_one_program():
    """Whatever a run has drawn at its end, its report need not compile again."""
    model = ConsistencyModel(TorsoMLP(2, 4, depth=1, key=jr.key(0)), BoundaryPreconditioning())
    programs = lambda: untyped(sampling._draw_chunk)._cached._cache_size()
    before, found = programs(), []
    for weights in (place(model, data_mesh(2)), model):
        found.append(sampling.draw_samples(sampling.jump((), Noise()), weights, (2,), 4, key=jr.key(0)))
    np.testing.assert_array_equal(*found)
    assert programs() == before + 1


def test_marginals_are_shares_below_each_value():
    data = np.linspace(0, 1, 101)[:, None].repeat(8, 1)
    chart = marginals_chart(data, {"one-step": np.concatenate([data[:50], data[:51] + 100])}, "name", "")
    assert len(chart.panels) == 6
    truth, found = chart.panels[0].lines
    assert (truth.label, truth.y[0], truth.y[-1]) == ("data", 0, 1)
    assert np.interp(0.25, truth.x, truth.y) == pytest.approx(26 / 101, abs=0.01)
    assert found.y[-1] == pytest.approx(50 / 101)
    assert "the first 6 of 8" in chart.caption


# --- the page ---

PNG = io.BytesIO()
Image.new("L", (8, 8)).save(PNG, "PNG")
CHART = chart_of(Line("a", [0, 1], [1.0, 2.0]))
PICTURE = Picture(PNG.getvalue(), 'a"b', "c")
SECTION = Section(
    "one", "One & only", "Words <b>", [CHART, Table(["n", "v"], [["<x>", "1"]], "T"), Gallery("G", [PICTURE])]
)


def test_a_page_needs_nothing_else_and_escapes_what_it_is_given():
    text = page('A "title"', "words", [SECTION], "foot")
    assert "<b>" not in text
    assert "&lt;x&gt;" in text
    assert 'alt="a&quot;b"' in text
    for target in re.findall(r'(?:href|src)="([^"]*)"', text):
        assert target.startswith(("#", "data:"))
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|http-equiv', "", text)
    assert "<script" not in text
