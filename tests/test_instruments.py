"""Instruments: statistics that a checkpoint can carry, and a stopwatch. Laws, tables and numbers."""

import itertools
import json
import math
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equisct import Part, PerLevel, Terms
from equisct.app.tracking import Moments, StageMoments, Throughput, Update, Window, term_columns, update_from_report
from strategies import untyped
from tolerances import FLOAT64_ROUNDING

numbers = st.floats(-1e6, 1e6, width=32)
norms = st.floats(0, 1e6, width=32)
bins = st.lists(st.floats(0, 1e4, width=32), min_size=3, max_size=3).map(lambda x: np.array(x, np.float32))
NAMES = ("consistency", "mine/own")
EDGES = np.array([0.002, 0.1, 2.0, 80.0], np.float32)


@st.composite
def updates(draw, *, terms, parts):
    """One update; one in four is not finite, with a loss or norm that is not."""
    finite = draw(st.integers(0, 3)) > 0
    bad = st.sampled_from([math.nan, math.inf])
    fields = {"loss": draw(numbers if finite else bad), "gradient_norm": draw(norms if finite else norms | bad)}
    fields["gradient_norms"] = {name: draw(norms if finite else norms | bad) for name in NAMES if parts}
    if terms:
        fields["terms"] = {name: draw(numbers) for name in NAMES}
        fields["per_level"] = {name: PerLevel(draw(bins), draw(bins), EDGES) for name in NAMES}
    return Update(finite=finite, **fields)


streams = st.tuples(st.booleans(), st.booleans()).flatmap(
    lambda has: st.lists(updates(terms=has[0], parts=has[1]), max_size=12)
)


def through_json(value):
    """As it comes back from a checkpoint, keys sorted."""
    return type(value).from_json(json.loads(json.dumps(value.to_json(), sort_keys=True)))


def text(value) -> str:
    """Every bit of a row."""
    return json.dumps(value, allow_nan=False)


# --- a cut anywhere changes no bit ---


@given(streams, st.data())
def test_a_window_stored_and_restored_anywhere_gives_the_same_bits(stream, data):
    cuts = data.draw(st.sets(st.integers(0, len(stream))))
    whole, cut = Window(), Window()
    for k, update in enumerate(stream):
        cut = through_json(cut) if k in cuts else cut
        whole.add(update)
        cut.add(update)
    assert text(through_json(cut).row(7, 11)) == text(whole.row(7, 11))


@given(streams, st.data())
def test_stages_stored_and_restored_anywhere_give_the_same_bits(stream, data):
    cuts = data.draw(st.sets(st.integers(0, len(stream))))
    whole, cut = StageMoments(), StageMoments()
    for k, update in enumerate(stream):
        cut = through_json(cut) if k in cuts else cut
        for stages in (whole, cut):
            stages.add(update, stage=k // 4, points=10 * 2 ** (k // 4) + 1)
    cut = through_json(cut)
    assert text(cut.summary()) == text(whole.summary())
    assert [text(cut.row(stage)) for stage in range(4)] == [text(whole.row(stage)) for stage in range(4)]


# --- the numbers are right ---


@given(st.lists(numbers | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=30))
def test_moments_are_those_of_numpy(stream):
    moments = Moments()
    for value in stream:
        moments.add(value)
    finite = np.array([x for x in stream if math.isfinite(x)], np.float64)
    assert (moments.count, moments.nonfinite) == (len(finite), len(stream) - len(finite))
    if not len(finite):
        assert (moments.mean, moments.variance, moments.std, moments.cv) == (None,) * 4
        return
    largest = np.abs(finite).max()
    assert moments.mean == pytest.approx(finite.mean(), rel=0, abs=FLOAT64_ROUNDING * largest)
    assert moments.variance == pytest.approx(finite.var(), rel=0, abs=FLOAT64_ROUNDING * largest**2)
    assert moments.std == math.sqrt(untyped(moments.variance))
    if moments.mean:
        assert moments.cv == pytest.approx(untyped(moments.std) / abs(moments.mean), rel=FLOAT64_ROUNDING)
    else:
        assert moments.cv is None


@given(streams)
def test_a_row_holds_the_means_over_the_updates_taken(stream):
    window = Window()
    for update in stream:
        window.add(update)
    row = window.row(step=5, points=21)
    taken = [update for update in stream if update.finite]
    assert (row["step"], row["points"], row["skipped"]) == (5, 21, len(stream) - len(taken))
    numbers_of = lambda u: {
        "loss": u.loss, "gradient_norm": u.gradient_norm, **u.terms,
        **{f"{name}_gradient_norm": norm for name, norm in u.gradient_norms.items()},
    }  # fmt: skip
    names = numbers_of(stream[0]) if stream else ("loss", "gradient_norm")
    fixed = {"step", "points", "skipped", "gradient_norm_std"}
    assert {name for name in row if not name.endswith(("_per_bin", "_bin_edges"))} == {*names, *fixed}
    for name in names:
        values = np.array([numbers_of(update)[name] for update in taken], np.float64)
        scale = np.abs(values).max(initial=0)
        assert row[name] == (pytest.approx(values.mean(), rel=0, abs=FLOAT64_ROUNDING * scale) if taken else None)
    assert row["gradient_norm_std"] == (
        pytest.approx(np.std([u.gradient_norm for u in taken]), rel=1e-6, abs=FLOAT64_ROUNDING) if taken else None
    )
    for name in NAMES:
        if not stream or not stream[0].per_level:
            assert f"{name}_per_bin" not in row
            continue
        assert row[f"{name}_bin_edges"] == [0.002, 0.1, 2.0, 80.0]
        sums, counts = (
            np.sum([np.asarray(getattr(u.per_level[name], kind), np.float64) for u in taken] + [np.zeros(3)], 0)
            for kind in ("total", "count")
        )
        for found, total, n in zip(row[f"{name}_per_bin"], sums, counts, strict=True):
            assert found == (pytest.approx(total / n, rel=FLOAT64_ROUNDING) if n else None)


def update(norm, consistency=None, denoising=None, *, finite=True):
    parts = {"consistency": consistency, "denoising": denoising}
    known = {name: value for name, value in parts.items() if value is not None}
    return Update(loss=1.0, gradient_norm=norm, finite=finite, gradient_norms=known)


def test_the_fields_of_a_row_in_their_order():
    window, ones = Window(), np.ones(3, np.float32)
    terms, norms = {"step": 0.5, "consistency": 0.5, "denoising": 0.25}, {"denoising": 1.0}
    sums = {name: PerLevel(ones, ones, EDGES) for name in ("denoising", "consistency")}
    window.add(Update(loss=1.0, gradient_norm=2.0, finite=True, terms=terms, gradient_norms=norms, per_level=sums))
    names = "step points loss consistency denoising terms/step gradient_norm gradient_norm_std"
    bins = "consistency_per_bin consistency_bin_edges denoising_per_bin denoising_bin_edges"
    row = window.row(1, 11) | StageMoments().row(0)
    stage = [name for name in row if name.startswith("stage")]
    assert list(row) == [*names.split(), *bins.split(), "skipped", "denoising_gradient_norm", *stage]
    assert (row["step"], row["terms/step"]) == (1, 0.5)
    assert term_columns(row) == ["consistency", "denoising", "terms/step"]
    assert list(Window().row(1, 11)) == ["step", "points", "loss", "gradient_norm", "gradient_norm_std", "skipped"]


def test_stages_by_hand():
    stages = StageMoments()
    for norm in (1.0, 3.0):
        stages.add(update(norm, 2 * norm, 0.0), stage=0, points=11)
    stages.add(update(math.inf, 1.0, 1.0, finite=False), stage=0, points=11)
    stages.add(update(5.0, 5.0, 0.0), stage=1, points=21)
    total = {"updates": 2, "skipped": 1, "mean": 2.0, "variance": 1.0, "cv": 0.5}
    assert stages.summary()[0] == {
        "stage": 0,
        "points": 11,
        "total": total,
        "consistency": {"updates": 2, "skipped": 1, "mean": 4.0, "variance": 4.0, "cv": 0.5},
        "denoising": {"updates": 2, "skipped": 1, "mean": 0.0, "variance": 0.0, "cv": None},
    }
    assert [row["stage"] for row in stages.summary()] == [0, 1]
    row = stages.row(1)
    assert (row["stage"], row["stage_gradient_norm_mean"], row["stage_gradient_norm_variance"]) == (1, 5.0, 0.0)
    assert row["stage_consistency_gradient_norm_cv"] == 0.0
    assert row["stage_denoising_gradient_norm_cv"] is None
    names = ("stage_gradient_norm_mean", "stage_gradient_norm_variance", "stage_gradient_norm_cv")
    assert stages.row(9) == {"stage": 9} | dict.fromkeys(names)


def test_stages_file(tmp_path):
    stages = StageMoments()
    stages.add(update(2.0), stage=0, points=11)
    for _ in range(2):
        stages.write_stages(tmp_path / "stages.json")
    assert json.loads((tmp_path / "stages.json").read_text()) == stages.summary()
    assert [path.name for path in tmp_path.iterdir()] == ["stages.json"]


OURS = Terms({"consistency": Part(jnp.float32(0.1), 0.3)}, {"consistency": PerLevel(np.ones(3), np.ones(3), EDGES)})


@pytest.mark.parametrize(
    ("terms", "names", "levels"),
    [
        (OURS, ["consistency"], ["consistency"]),
        ({"mine": np.float32(0.1), "text": "no", "array": np.ones(2)}, ["mine"], []),
        (np.float32(0.1), ["term"], []),
        (None, [], []),
    ],
    ids=["ours", "dictionary", "number", "none"],
)
@pytest.mark.parametrize("parts", [None, {"consistency": np.array(3.0, np.float32)}])
def test_a_report_becomes_an_update(terms, names, levels, parts):
    report = types.SimpleNamespace(
        loss=np.float32(0.1), terms=terms, gradient_norm=np.float32(2), finite=np.bool_(True), gradient_norms=parts,
        noise=None,
    )  # fmt: skip
    found, tenth = update_from_report(report), float(np.float32(0.1))
    assert (found.loss, found.finite, found.gradient_norms) == (tenth, True, {"consistency": 3.0} if parts else {})
    assert (found.terms, list(found.per_level)) == (dict.fromkeys(names, tenth), levels)
    window = Window()
    window.add(found)
    json.dumps(window.row(1, 2))


def test_bins_of_other_edges_begin_anew():
    """As where a run goes on with another range of levels, allowed by its person."""
    window, ones = Window(), np.ones(3, np.float32)
    for edges in (EDGES, 2 * EDGES):
        sums = {"mine": PerLevel(ones, ones, edges)}
        window.add(Update(loss=1.0, gradient_norm=1.0, finite=True, per_level=sums))
    assert (window.to_json()["bins"]["mine"]["count"], window.row(2, 3)["mine_bin_edges"][0]) == ([1.0] * 3, 0.004)


WRONG = {
    "moments": (lambda: Moments.from_json({"count": 1}), "moments: expected the fields .*, found"),
    "window": (lambda: Window.from_json({}), "window: expected the fields .*, found"),
    "stage": (lambda: StageMoments.from_json({"0": {}}), "stage: expected the fields .*, found"),
    "throughput": (lambda: Throughput(0), "batch: expected .* >= 1, found 0"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_stage_has_one_grid():
    stages = StageMoments()
    stages.add(update(1.0), stage=0, points=11)
    with pytest.raises(ValueError, match="points: expected 11 at stage 0, found 21"):
        stages.add(update(1.0), stage=0, points=21)


# --- the stopwatch ---


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_window_of_the_stopwatch_by_hand():
    clock = Clock()
    meter = Throughput(32, clock)

    def slow():
        for k in range(3):
            clock.now += 1.0
            yield k

    batches = meter.time_batches(slow())
    assert next(batches) == 0
    with meter.compiling():
        clock.now += 8.0
    meter.update()
    assert next(batches) == 1
    clock.now += 4.0
    meter.update()
    row = meter.row(device_memory=123)
    assert row.pop("host_memory_peak") > 2**20 or sys.platform == "win32"
    assert row == {
        "seconds": 14.0,
        "images_per_second": 64 / 6,
        "data_wait_share": 2 / 14,
        "compile_seconds": 8.0,
        "device_memory_peak": 123,
    }
    assert list(batches) == [2]
    clock.now += 1.0
    assert meter.row()["data_wait_share"] == 0.5
    empty = meter.row()
    assert (empty["images_per_second"], empty["data_wait_share"], empty["device_memory_peak"]) == (None, 0.0, None)


actions = st.lists(st.tuples(st.sampled_from(["batch", "compile", "update", "row", "cut"]), st.floats(0, 1e3)))


@given(actions)
def test_shares_are_shares_and_speeds_are_not_negative(actions):
    clock = Clock()
    meter = Throughput(4, clock)
    rows = []
    for action, seconds in actions:
        if action == "batch":
            with meter.waiting():
                clock.now += seconds
        elif action == "compile":
            with meter.compiling():
                clock.now += seconds
        elif action == "cut":  # rows taken while waiting or compiling
            with meter.waiting():
                clock.now += seconds
                rows.append(meter.row())
                clock.now += seconds
            with meter.compiling():
                clock.now += seconds
                rows.append(meter.row())
        elif action == "update":
            clock.now += seconds
            meter.update()
        else:
            rows.append(meter.row())
    for row in [*rows, meter.row()]:
        assert 0 <= row["data_wait_share"] <= 1
        assert 0 <= row["compile_seconds"] <= row["seconds"] * (1 + FLOAT64_ROUNDING)
        assert row["images_per_second"] is None or row["images_per_second"] >= 0


def test_endless_batches_stay_lazy():
    assert list(itertools.islice(Throughput(1).time_batches(itertools.count()), 3)) == [0, 1, 2]


def test_a_state_that_was_given_out_stays_as_it_was():
    """It is written later, while the window goes on."""
    window, sums = Window(), {"denoising": PerLevel(np.ones(3), np.ones(3), EDGES)}
    window.add(Update(loss=1.0, gradient_norm=2.0, finite=True, per_level=sums))
    state = window.to_json()
    before = json.dumps(state)
    window.add(Update(loss=3.0, gradient_norm=2.0, finite=True, per_level=sums))
    assert json.dumps(state) == before
