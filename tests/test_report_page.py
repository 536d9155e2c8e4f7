"""`equisct-report`: what it says of runs and to mistakes; its page in a real browser, without a window."""

import base64
import csv
import html
import json
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from equisct.app.cli import report, train
from equisct.app.cli.report_facts import facts
from equisct.app.cli.report_work import decides, read_run
from equisct.app.report import ablation_chart, group_runs
from test_cli_evaluate import call

TESTS = pathlib.Path(__file__).parent
CHROMIUM = os.environ.get("EQUISCT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)")

QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000")  # fmt: skip
OWN = re.compile(r"(https?://([\w-]+\.)*google(apis)?\.com/|(file|chrome|chrome-extension|devtools)://)")
SMALL = ("--torso.width", "8", "--head.width", "8", "--torso.blocks", "1", "--head.blocks", "1", "--run.batch", "16",
         "--method.last", "20", "--run.steps", "4", "--log.every", "2", "--log.no-tensorboard", "--sample.n", "0",
         "--eval.every", "2", "--eval.n", "32", "--eval.features", "pixels")  # fmt: skip
IMAGES = ("--log.no-tensorboard", "--eval.every", "6", "--eval.n", "16", "--sample.n", "0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds with guidance, the first of which writes its own report, and one without."""
    place = tmp_path_factory.mktemp("runs")
    np.savez(place / "points.npz", images=np.random.default_rng(1).normal(size=(96, 2)).astype(np.float32))
    data = ("npz", "--data.path", place / "points.npz")
    made = {"guided-0": ("--run.report",), "guided-1": ("--run.seed", "1"), "plain": ("--head.no-guide",)}
    for name, words in made.items():
        ended = call(train.main, *data, *SMALL, *words, "--run.dir", place / name)
        assert ended.code == 0, ended.err
        last = f"wrote {place / name / 'report.html'}\n"
        assert ended.out.endswith(last) == (name == "guided-0")
    return place


@pytest.fixture(scope="module")
def pages(runs):
    """The report of a run on images, and one of several runs."""
    assert call(train.main, "tiny", *IMAGES, "--run.dir", runs / "tiny").code == 0
    several = [runs / name for name in ("guided-0", "guided-1", "plain")]
    made = {"images": [runs / "tiny"], "several": several}
    for name, words in made.items():
        out = runs / f"{name}.html"
        ended = call(report.main, *words, "--out", out, "--n", "32", "--levels", "5")
        assert (ended.code, ended.out) == (0, f"wrote {out}\n"), ended.err
        told = [" ".join(line.split()[:2]) for line in ended.err.splitlines()]
        assert told == [f"loaded {path.name}:" for path in words] + [
            "measured alignment,",
            "measured support:",
            *[f"drawing {64 if name == 'images' else '1,024'}"] * (1 if name == "images" else 2),
            f"drawing {6 if name == 'images' else 9}",
        ], ended.err
    return {name: runs / f"{name}.html" for name in made}


def test_a_report_of_runs_holds_every_figure(pages):
    text, folder = pages["several"].read_text(), pages["several"].with_suffix("")
    for figure in ("figure-2", "figure-3", "figure-4", "losses", "support", "throughput"):
        assert f'<figure id="{figure}">' in text
        assert "Fréchet distance" in text
        assert {path.suffix for path in folder.glob(f"{figure}.*")} == {".svg", ".png", ".csv"}
    rows = [*csv.DictReader((folder / "figure-3.csv").read_text().splitlines())]
    assert {row["line"] for row in rows if row["panel"] == "Cosine"} == {
        "head and its own consistency model", "head and one trained without", "exact posterior mean and the model"
    }  # fmt: skip
    assert len([row for row in rows if row["line"].endswith("without") and row["panel"] == "Cosine"]) == 5
    assert "last evaluation (--eval.every), of 32 samples in features of pixels." in text
    assert "<title>3 runs of equisct-train</title>" in text
    assert "<title>The run tiny</title>" in pages["images"].read_text()
    assert (folder / "samples-1.png").is_file()


def test_a_page_of_one_run_says_what_was_run(runs, pages):
    text = pages["images"].read_text()
    rows = dict(re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', text))
    expected = {
        "preset": "tiny",
        "set otherwise": "log.tensorboard True → False, sample.n 4 → 0, eval.every 0 → 6, eval.n 1000 → 16",
        "method": "ScoreGuidance",
        "parameters": "2,865 in the consistency model, 3,705 in the head",
        "data": "Digits: 1,797 images of 8 x 8 pixels, 1 channel",
        "updates": "12 of 12, of 8 samples each: 0.0534 epochs",
        "average": "of weights 0 updates old in the mean at the end, 1.0% of the run (ema: std 0.036)",
        "draw more with": f"equisct-sample {runs / 'tiny'}",
        "run.batch": "8",
    }
    assert {name: html.unescape(rows.get(name, "")) for name in expected} == expected
    for name, word in {"time": "to the last update", "machine": "2 x cpu", "versions": "jax 0."}.items():
        assert word in rows[name]
    assert rows["command"].startswith("equisct-train tiny")
    last = read_run(runs / "tiny", "tiny").evaluations[-1]
    assert rows["one-step"] == f"{last['one-step/frechet_distance']:.4g}"
    assert "Figures of the samples after 12 updates" in text
    assert "Samples were not measured" not in text


def test_a_guide_that_is_off_is_a_setting_and_stands_at_0_in_the_ablation(runs):
    rows = [read_run(runs / name, name) for name in ("guided-0", "plain")]
    assert [(run.settings["method.head_weight"], run.settings["head.guide"]) for run in rows] == [
        (0.3, True), (0.3, False)
    ]  # fmt: skip
    assert len(rows[1].evaluations) == 2
    groups = group_runs(rows, decides)
    assert [group.label for group in groups] == ["guide True", "guide False"]
    (panel, *_) = ablation_chart(groups).panels
    assert [words for _, words in panel.ticks] == ["0", "0.3"]


def test_what_was_recorded_is_enough_without_models(runs, tmp_path):
    out = tmp_path / "quick.html"
    assert call(report.main, runs / "plain", "--no-models", "--out", out).code == 0
    assert 'id="figure-2"' in out.read_text()
    assert 'id="alignment"' not in out.read_text()


def test_a_run_under_way_is_reported_without_its_model(runs, tmp_path):
    young = tmp_path / "young"
    young.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (young / name).write_bytes((runs / "plain" / name).read_bytes())
    ended = call(report.main, young, "--out", tmp_path / "r.html")
    assert ended.code == 0
    assert "note: young has no checkpoint yet" in ended.err
    assert "equisct-sample" in (tmp_path / "r.html").read_text()
    (young / "STATUS.json").write_text(json.dumps({"status": "preempted", "resume": "equisct-train resume x"}))
    assert facts(young, read_run(young, "young"), None)["go on with"] == "equisct-train resume x"


def test_figures_that_were_not_taken_alike_are_left_out(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs / "plain", other)
    noted = json.loads((other / "evaluation.json").read_text())
    noted["pipeline"]["samples"] += 1
    (other / "evaluation.json").write_text(json.dumps(noted))
    ended = call(report.main, runs / "guided-0", other, "--no-models", "--out", tmp_path / "r.html")
    assert ended.code == 0
    assert "note: figures of samples are left out" in ended.err
    assert "samples: expected that of guided-0, 32, found 33 in other" in ended.err
    assert "Fréchet distance" not in (tmp_path / "r.html").read_text()


def test_mistakes_get_one_message_and_leave_nothing(runs, tmp_path):
    empty, damaged = tmp_path / "empty", tmp_path / "damaged"
    for folder in (empty, damaged):
        folder.mkdir()
        (folder / "config.json").write_bytes((runs / "plain" / "config.json").read_bytes())
    (damaged / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    cases = {
        "runs: expected the folder of a run of equisct-train, with config.json": [tmp_path],
        "runs: expected each folder once": [runs / "plain", runs / "plain"],
        "runs: expected runs with rows in metrics.jsonl": [empty],
        "metrics.jsonl: expected a JSON object in each line, found line 2 damaged": [damaged],
        "out: expected a file ending in .html": [runs / "plain", "--out", tmp_path / "page.txt"],
        "n: expected a finite number >= 2": [runs / "plain", "--n", "1"],
        "levels: expected a finite number >= 2": [runs / "plain", "--levels", "1"],
    }
    for message, words in cases.items():
        out = [] if "--out" in words else ["--out", tmp_path / "page.html"]
        ended = call(report.main, *words, *out)
        assert (ended.code, message in ended.err) == (2, True), (message, ended.err)
        assert ended.err.startswith("equisct-report: error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "empty"]


def test_stages_that_cannot_be_read_are_named(runs, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (broken / name).write_bytes((runs / "plain" / name).read_bytes())
    (broken / "stages.json").write_text("[")
    with pytest.raises(ValueError, match="runs: expected JSON in .*stages.json"):
        read_run(broken, "broken")
    (broken / "stages.json").write_text(json.dumps([]))
    assert read_run(broken, "broken").stages == []


# --- in a browser ---


def browse(page, tmp_path, *flags):
    """What the browser prints of a page, and what it says on the way."""
    words = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)


def look(page, tmp_path, width, *flags):
    """The page in a frame of that many pixels, with `page_check.js` inside: what that found."""
    script = f"<script>addEventListener('load',()=>{{{(TESTS / 'page_check.js').read_text()}}})</script>"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    inner = html.escape(text.replace("</body>", f"{script}</body>"), quote=True)
    frame = tmp_path / "frame.html"
    frame.write_text(f'<!doctype html><iframe width="{width}" height="900" srcdoc="{inner}"></iframe>')
    found = re.search(r"<pre>([^<]*)</pre>", browse(frame, tmp_path, *flags).stdout)
    assert found, "the check did not run to its end"
    return json.loads(base64.b64decode(found[1]))


def asked_by_the_page(log):
    """What was asked of the network, but for the browser's own errands, which are those of an empty page."""
    return [url for url in re.findall(r'"url":"(\w+://[^"]+)"', log.read_text()) if not OWN.match(url)]


LIGHT, DARK = (), ("--blink-settings=preferredColorScheme=0",)
SEEN = {
    "images": {"charts": 4 + 2 + 1 + 3 + 3 + 3, "pictures": 4 + 4, "downloads": 6},
    "several": {"charts": 4 + 1 + 2 + 1 + 4 + 3 + 3 + 2 * 2, "pictures": 2 * 4, "downloads": 9},
}
"""Charts: training, ablation, losses by level, throughput, alignment, the loss and its terms over the updates, each
coordinate of vectors. Pictures: data and three samplers; of images four of samples and the data nearest to them."""


@in_browser
@pytest.mark.parametrize(("width", "flags"), [(1200, LIGHT), (360, DARK)], ids=["wide and light", "phone and dark"])
@pytest.mark.parametrize("name", SEEN)
def test_everything_is_there_for_everybody(name, width, flags, pages, tmp_path):
    """Names, order, contrast, keyboard, no line wider than the window; every chart drawn, every picture shown."""
    found = look(pages[name], tmp_path, width, *flags)
    assert found["problems"] == []
    assert (found["width"], found["dark"]) == (width, flags is DARK)
    assert found["paper"] == ("rgb(19, 19, 22)" if flags is DARK else "rgb(255, 255, 255)")
    assert {key: found[key] for key in SEEN[name]} == SEEN[name]


@in_browser
@pytest.mark.parametrize("name", SEEN)
def test_a_page_says_nothing_to_the_console_and_asks_nobody(name, pages, tmp_path):
    log = tmp_path / "net.json"
    said = browse(pages[name], tmp_path, "--enable-logging=stderr", f"--log-net-log={log}").stderr
    assert [line for line in said.splitlines() if "CONSOLE" in line] == []
    assert asked_by_the_page(log) == []


@in_browser
def test_the_check_sees_what_is_wrong(pages, tmp_path):
    """The page with one thing broken at a time."""
    page = (pages["images"]).read_text()
    broken = {
        "alt": re.sub(r'alt="[^"]+"', 'alt=""', page),
        "contrast": page.replace("--soft:#5a5a60", "--soft:#d0d0d0"),
        "heading order": page.replace("<h2", "<h4").replace("</h2", "</h4"),
        "lang": page.replace('lang="en"', ""),
        "picture": re.sub(r'src="data:image/png;base64,[^"]{40}', 'src="data:image/png;base64,', page),
        "link target": page.replace('href="#samples"', 'href="#nothing"'),
        "svg name": page.replace('role="img"', ""),
        "wider than the window": page.replace("max-width:100%;height:auto", "width:900px"),
    }
    for rule, text in broken.items():
        path = tmp_path / "broken.html"
        path.write_text(text)
        problems = look(path, tmp_path, 500)["problems"]
        assert [each for each in problems if each.startswith(rule)], (rule, problems)


@in_browser
def test_the_console_and_the_network_are_listened_to(pages, tmp_path):
    path, log = tmp_path / "loud.html", tmp_path / "net.json"
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", (pages["images"]).read_text())
    path.write_text(
        page.replace("</body>", '<img alt="x" src="http://127.0.0.1:9/x.png"><script>nothing()</script></body>')
    )
    said = browse(path, tmp_path, "--enable-logging=stderr", f"--log-net-log={log}").stderr
    assert [line for line in said.splitlines() if "CONSOLE" in line and "nothing is not defined" in line]
    assert set(asked_by_the_page(log)) == {"http://127.0.0.1:9/x.png"}
