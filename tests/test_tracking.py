"""Trackers: rows survive kills and rewind, troubles stay in the shield, nothing secret or remote is written."""

import datetime
import io
import os
import pathlib
import resource
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equisct
from equisct.app.tracking import Events, Guarded, JsonLines, TensorBoard, Tracker, WandB, json_lines, read_rows, redact
from strategies import untyped

SOURCE = str(pathlib.Path(equisct.__file__).parents[1])
PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
HANG = 0.3
"""Seconds that a tracker hangs in the tests."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder for hypothesis, which gives each example its own."""
    root = tmp_path_factory.mktemp("examples")
    numbers = iter(range(10**9))

    def fresh():
        folder = root / str(next(numbers))
        folder.mkdir()
        return folder

    return fresh


def write(tracker, folder, steps, *, start=0):
    tracker.start(folder, {"lr": 0.1}, start)
    for step in steps:
        tracker.log(step, {"loss": 1 / step, "bins": [None, float(step)]})
    tracker.close()


# --- json lines ---


@given(rows=st.lists(st.integers(1, 30), unique=True).map(sorted), data=st.data())
def test_after_any_cut_and_any_resume_the_file_holds_the_whole_rows_up_to_there(scratch, rows, data):
    folder = scratch()
    write(JsonLines("m.jsonl"), folder, rows)
    path = folder / "m.jsonl"
    lines = path.read_bytes().splitlines()
    cut = data.draw(st.integers(0, path.stat().st_size))
    step = data.draw(st.integers(0, 31))
    os.truncate(path, cut)
    ends = np.cumsum([len(line) + 1 for line in lines], dtype=int) - 1  # all but the newline
    whole = [line for line, end in zip(lines, ends, strict=True) if end <= cut]
    assert [row["step"] for row in read_rows(path)] == rows[: len(whole)]
    kept = [line for line, k in zip(whole, rows, strict=False) if step and k <= step]
    write(JsonLines("m.jsonl"), folder, [step + 1], start=step)
    assert path.read_bytes().splitlines()[:-1] == kept
    assert read_rows(path)[-1]["step"] == step + 1
    assert [entry.name for entry in folder.iterdir()] == ["m.jsonl"]


def test_a_resumed_file_equals_the_unbroken_one(tmp_path):
    for name, parts in {"whole": [(0, range(1, 31))], "cut": [(0, range(1, 19)), (15, range(16, 31))]}.items():
        (tmp_path / name).mkdir()
        for start, steps in parts:
            write(JsonLines("m.jsonl"), tmp_path / name, steps, start=start)
    assert (tmp_path / "cut" / "m.jsonl").read_bytes() == (tmp_path / "whole" / "m.jsonl").read_bytes()


def test_a_row_is_one_write(tmp_path, monkeypatch):
    writes = []

    class Counting(io.FileIO):
        def write(self, line, /):
            writes.append(line)
            return io.FileIO.write(self, line)

    monkeypatch.setattr(json_lines, "io", types.SimpleNamespace(FileIO=Counting))
    tracker = JsonLines("m.jsonl")
    tracker.start(tmp_path, {}, 0)
    for step in range(1, 4):
        tracker.log(step, {"loss": 0.5})
        assert len(read_rows(tmp_path / "m.jsonl")) == len(writes) == step
    tracker.flush()
    tracker.close()
    tracker.close()


def test_values_are_written_as_json(tmp_path):
    tracker = JsonLines("m.jsonl")
    tracker.start(tmp_path, {}, 0)
    values = {"a": np.nan, "b": [1.0, np.inf, None], "c": np.float32(0.5), "d": np.array([1, 2]), "e": {"x": -np.inf}}
    tracker.log(3, values)
    tracker.image(3, "grid", PICTURE)
    tracker.close()
    assert (tmp_path / "m.jsonl").read_text() == (
        '{"step": 3, "a": null, "b": [1.0, null, null], "c": 0.5, "d": [1, 2], "e": {"x": null}}\n'
    )


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_come_back_exactly(scratch, values):
    tracker, folder = JsonLines("m.jsonl"), scratch()
    tracker.start(folder, {}, 0)
    tracker.log(1, {"values": values})
    tracker.close()
    assert repr(read_rows(folder / "m.jsonl")[0]["values"]) == repr(values)


def test_damage_inside_is_told_by_the_reader_and_dropped_by_a_resume(tmp_path):
    write(JsonLines("m.jsonl"), tmp_path, [1, 2, 3])
    path = tmp_path / "m.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"step": \xff\x00\n' + b'{"step": "2"}\n[2]\n' + lines[2] + b'{"st')
    with pytest.raises(ValueError, match=r"m.jsonl: expected a JSON object in each line, found line 2 damaged"):
        read_rows(path)
    write(JsonLines("m.jsonl"), tmp_path, [9], start=8)
    assert [row["step"] for row in read_rows(path)] == [1, 3, 9]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_row_that_does_not_fit_on_the_disk_is_taken_back(tmp_path):
    tracker = JsonLines("m.jsonl")
    tracker.start(tmp_path, {}, 0)
    tracker.log(1, {"loss": 1.0})
    path = tmp_path / "m.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, hard))
    try:
        with pytest.raises(OSError, match="expected to append 26 bytes, wrote 5; is the disk full"):
            tracker.log(2, {"loss": 0.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    tracker.log(3, {"loss": 0.25})
    tracker.close()
    assert [row["step"] for row in read_rows(path)] == [1, 3]


def test_a_kill_leaves_whole_rows(tmp_path):
    code = """if True:
        import itertools, pathlib, sys
        from equisct.app.tracking import JsonLines
        tracker = JsonLines("m.jsonl")
        tracker.start(pathlib.Path(sys.argv[1]), {}, 0)
        for step in itertools.count(1):
            tracker.log(step, {"loss": [1 / step] * 50})"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": SOURCE})
    path = tmp_path / "m.jsonl"
    try:
        while process.poll() is None and not (path.exists() and path.stat().st_size > 10_000):
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    steps = [row["step"] for row in read_rows(path)]
    assert steps == list(range(1, len(steps) + 1))
    assert steps
    assert path.read_bytes().endswith(b"\n")


def test_events_are_never_rewound(tmp_path):
    path = tmp_path / "events.jsonl"
    Events(path, clock=lambda: 0.5).append("start", step=0)
    with path.open("a") as file:
        file.write('{"torn')
    events = Events(path)
    events.append("restore", step=15, loss=float("nan"), token="abc")
    first, second = read_rows(path)
    assert first == {"time": "1970-01-01T00:00:00.500Z", "kind": "start", "step": 0}
    assert (second["kind"], second["step"], second["loss"], second["token"]) == ("restore", 15, None, "[redacted]")
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(second["time"])
    assert datetime.timedelta(0) <= age + datetime.timedelta(milliseconds=1) < datetime.timedelta(minutes=1)


WRONG = {
    "folder": (lambda: JsonLines("a/m.jsonl"), "filename: expected a name without folders, found 'a/m.jsonl'"),
    "early row": (lambda: JsonLines("m.jsonl").log(1, {}), "m.jsonl: expected start.. to come first"),
    "early scalar": (lambda: TensorBoard()._write(), "TensorBoard: expected start.. to come first"),
    "early run": (lambda: WandB("p").log(1, {}), "WandB: expected start.. to come first"),
    "mode": (lambda: WandB("p", mode="shared"), "mode: expected 'offline' or 'online', found 'shared'"),
    "capacity": (lambda: Guarded(JsonLines("m"), capacity=0), "capacity: expected at least 1, found 0"),
    "patience": (lambda: Guarded(JsonLines("m"), patience=-1), "patience: expected .* found -1"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- tensorboard ---


def scalars_of(folder):
    """What TensorBoard's own reader sees: tag -> steps and values."""
    from_files = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = from_files.EventAccumulator(str(folder / "tb"), size_guidance={"scalars": 0, "images": 0})
    reader.Reload()
    tags = reader.Tags()
    scalars = {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in tags["scalars"]}
    images = {tag: [(e.step, e.width, e.height) for e in reader.Images(tag)] for tag in tags["images"]}
    return scalars, images


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    tracker = TensorBoard()
    for start, steps in ((0, range(1, 8)), (4, range(5, 11)), (6, range(7, 9))):
        tracker.start(tmp_path, {}, start)
        tracker.image(start, "samples", PICTURE)
        for step in steps:
            tracker.log(step, {"loss": step + start / 8, "bins": [0.5, None, float(step)], "none": None})
        tracker.flush()
        tracker.close()
        tracker.close()
    scalars, images = scalars_of(tmp_path)
    origin = {1: 0, 2: 0, 3: 0, 4: 0, 5: 4, 6: 4, 7: 6, 8: 6}
    assert scalars["loss"] == [(step, step + start / 8) for step, start in origin.items()]
    assert [step for step, _ in scalars["bins/bin_2"]] == list(origin)
    assert set(scalars) == {"loss", "bins/bin_0", "bins/bin_2"}
    assert images == {"samples": [(0, 5, 4), (4, 5, 4), (6, 5, 4)]}
    tracker.start(tmp_path, {}, 0)
    tracker.log(1, {"loss": 9.0})
    tracker.close()
    scalars, images = scalars_of(tmp_path)
    assert {tag: events for tag, events in (scalars | images).items() if events} == {"loss": [(1, 9.0)]}


def test_tensorboard_files_name_no_host_and_load_neither_tensorflow_nor_torch(tmp_path):
    code = """if True:
        import pathlib, sys
        from equisct.app.tracking import TensorBoard
        tracker = TensorBoard()
        tracker.start(pathlib.Path(sys.argv[1]), {}, 0)
        tracker.log(1, {"loss": 1.0})
        tracker.close()
        print(sorted({"jax", "tensorflow", "torch"} & sys.modules.keys()))"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": SOURCE})
    assert done.stdout.strip() == "[]"
    assert [path.name for path in (tmp_path / "tb").iterdir()] == ["events.out.tfevents.000001"]


def test_missing_packages_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="TensorBoard: expected tensorboardX to be installed"):
        TensorBoard().start(tmp_path, {}, 0)
    with pytest.raises(ValueError, match=r"WandB: expected wandb to be installed, found none .*pip install wandb"):
        WandB("p")


# --- weights and biases ---

OFFLINE_RUN = """if True:
    import pathlib, sys
    import numpy as np
    from equisct.app.tracking import Guarded, WandB
    folder = pathlib.Path(sys.argv[1])
    for start in (0, 2):
        tracker = Guarded(WandB("project"), patience=60.0)
        tracker.start(folder, {"lr": 0.1}, start)
        tracker.log(start + 1, {"loss": 0.5, "bins": [1.0, None], "none": None})
        tracker.image(start + 1, "samples", np.zeros((4, 4, 3), np.uint8))
        tracker.flush()
        tracker.close()
        assert (tracker.failed, tracker.dropped) == (0, 0)
        print((folder / "wandb" / "id.txt").read_text().strip())"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the permissions of POSIX")
def test_wandb_is_offline_local_and_silent_about_the_machine(tmp_path):
    contacts = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    done = threading.Event()

    def listen():
        while not done.is_set():
            try:
                contacts.append(listener.accept())
            except TimeoutError:
                continue

    thread = threading.Thread(target=listen)
    thread.start()
    run, home = tmp_path / "run", tmp_path / "home"
    run.mkdir()
    home.mkdir()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    place = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL"), address)
    place |= proxies | {
        "PYTHONPATH": SOURCE,
        "HOME": str(home),
        "WANDB_API_KEY": "canary" * 7,
        "USER": "canary-user",
        "LOGNAME": "canary-user",
    }
    command = [sys.executable, "-c", OFFLINE_RUN, str(run), "--argument-canary"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, env=place, timeout=240)
    finally:
        done.set()
        thread.join()
        listener.close()
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    assert contacts == []
    first, second = found.stdout.split()
    assert first == second
    assert list(home.rglob("*")) == []
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len([path for path in files if path.name == f"run-{first}.wandb"]) == 2
    assert {path.suffix for path in files} <= {".wandb", ".png", ".log", ".txt", ".yaml", ".json"}
    assert not [
        path for path in files if path.suffix == ".py" or path.name in ("requirements.txt", "wandb-metadata.json")
    ]
    for path in files:
        content = path.read_bytes()
        for word in (b"canary", socket.gethostname().encode() if len(socket.gethostname()) > 4 else b"canary"):
            assert word not in content, path


# --- the shield ---

METHODS = ("start", "log", "image", "flush", "close")


class Recorder:
    """A tracker that remembers its calls, and in one of its methods does something bad."""

    start: Callable[..., None]
    log: Callable[..., None]
    image: Callable[..., None]
    flush: Callable[..., None]
    close: Callable[..., None]

    def __init__(self, bad=None, act=lambda: None):
        self.calls = []
        for name in METHODS:
            setattr(self, name, self.method(name, act if name == bad else lambda: None))

    def method(self, name, act):
        def call(*arguments):
            self.calls.append((name, arguments))
            act()

        return call


def fail():
    raise RuntimeError("the service is away\nand more")


def leave():
    raise SystemExit(3)


def hang():
    time.sleep(HANG)


def drive(tracker, folder, rows=20):
    """A small run with a file of its own rows; gives the seconds it took until `close`, and those of `close`."""
    file = JsonLines("m.jsonl")
    file.start(folder, {}, 0)
    begin = time.monotonic()
    tracker.start(folder, {"lr": 0.1}, 0)
    for step in range(1, rows + 1):
        file.log(step, {"loss": 1.0})
        tracker.log(step, {"loss": 1.0})
        tracker.image(step, "samples", PICTURE)
        tracker.flush()
    middle = time.monotonic()
    tracker.close()
    file.close()
    assert [row["step"] for row in read_rows(folder / "m.jsonl")] == list(range(1, rows + 1))
    return middle - begin, time.monotonic() - middle


def test_a_good_tracker_gets_every_call_in_order_and_a_copy_of_it(tmp_path):
    tracker = Recorder()
    guarded = Guarded(tracker)
    row, picture = {"loss": 1.0, "bins": [1.0]}, PICTURE.copy()
    guarded.start(tmp_path, {"lr": 0.1}, 3)
    guarded.log(4, row)
    guarded.image(4, "samples", picture)
    row["bins"][0], picture[:] = 2.0, 0
    guarded.flush()
    guarded.close()
    assert [name for name, _ in tracker.calls] == list(METHODS)
    assert tracker.calls[0][1] == (tmp_path, {"lr": 0.1}, 3)
    assert tracker.calls[1][1] == (4, {"loss": 1.0, "bins": [1.0]})
    assert np.array_equal(tracker.calls[2][1][2], PICTURE)
    assert (guarded.failed, guarded.dropped) == (0, 0)


@pytest.mark.parametrize("bad", METHODS)
@pytest.mark.parametrize("act", [fail, leave, hang], ids=["raises", "leaves", "hangs"])
def test_a_bad_tracker_harms_nothing_and_is_told_once_a_minute(bad, act, tmp_path):
    said = []
    guarded = Guarded(Recorder(bad, act), capacity=8, patience=0.1, warn=said.append)
    running, closing = drive(guarded, tmp_path)
    assert running < HANG
    assert closing < HANG
    if act is not hang:
        assert guarded.failed >= 1
        assert said
    if act is hang and bad != "close":
        assert guarded.dropped > 0
    assert len(said) <= 1
    assert all(line.startswith("Recorder ") and "\n" not in line and "training goes on" in line for line in said)


def test_the_newest_rows_are_dropped_when_too_many_wait(tmp_path):
    release = threading.Event()
    tracker = Recorder("start", release.wait)
    guarded = Guarded(tracker, capacity=3, warn=lambda _: None)
    guarded.start(tmp_path, {}, 0)
    while not tracker.calls:
        time.sleep(0.001)
    for step in range(1, 11):
        guarded.log(step, {})
    assert guarded.dropped == 7
    release.set()
    guarded.close()
    assert [arguments[0] for name, arguments in tracker.calls if name == "log"] == [1, 2, 3]


def test_warnings_are_a_minute_apart_and_count(tmp_path):
    said, now = [], [0.0]
    tracker = Recorder("log", fail)
    guarded = Guarded(tracker, capacity=200, warn=said.append, clock=lambda: now[0])
    guarded.start(tmp_path, {}, 0)
    for step in range(1, 122):
        guarded.log(step, {})
        while guarded.failed < step:
            time.sleep(0.0005)
        now[0] += 1.0
    guarded.close()
    assert [int(line.split("; ")[1].split()[0]) for line in said] == [1, 61, 121]
    assert said[0] == (
        "Recorder failed in log (RuntimeError: the service is away); "
        "1 calls failed and 0 were dropped so far; training goes on"
    )


def test_a_tracker_that_did_not_start_is_left_alone(tmp_path):
    tracker = Recorder("start", fail)
    guarded = Guarded(tracker, warn=lambda _: None)
    drive(guarded, tmp_path, rows=5)
    assert [name for name, _ in tracker.calls] == ["start"]
    assert (guarded.failed, guarded.dropped) == (1, 15)


def test_a_warning_that_fails_harms_nothing(tmp_path):
    guarded = Guarded(Recorder("log", fail), warn=lambda _: fail())
    drive(guarded, tmp_path, rows=3)
    assert guarded.failed == 3


def test_the_default_warning_is_one_line_without_secrets(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SERVICE_TOKEN", "abcdef-123")

    def refuse():
        raise ValueError("login with abcdef-123 refused")

    drive(Guarded(Recorder("log", refuse)), tmp_path, rows=3)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: Recorder failed in log (ValueError: login with [redacted] refused); ")


def test_a_closed_or_idle_shield_takes_nothing(tmp_path):
    guarded = Guarded(Recorder(), warn=lambda _: None)
    guarded.log(1, {})
    guarded.close()
    assert guarded.dropped == 1


def test_a_hanging_tracker_does_not_keep_the_process(tmp_path):
    code = """if True:
        import pathlib, sys, time
        from equisct.app.tracking import Guarded, JsonLines
        class Hanging(JsonLines):
            def log(self, step, values):
                time.sleep(600)
        tracker = Guarded(Hanging("m.jsonl"), patience=0.1)
        tracker.start(pathlib.Path(sys.argv[1]), {}, 0)
        tracker.log(1, {})
        tracker.close()"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": SOURCE})
    assert done.returncode == 0
    assert "did not close within 0.1 s" in done.stderr


@pytest.mark.parametrize("tracker", [JsonLines("m"), TensorBoard(), Guarded(JsonLines("m")), Recorder()])
def test_trackers_fit_the_protocol(tracker):
    assert isinstance(tracker, Tracker)


def test_the_protocol_has_five_methods():
    assert sorted(name for name in vars(Tracker) if not name.startswith("_")) == sorted(METHODS)


# --- secrets ---

ENVIRONMENT = {"HF_TOKEN": "hf_abc&d\"'123", "SSH_KEY": "short", "DB_SECRET": " zzzzzz\n", "TOKENS": "ordinary"}

REDACTIONS = [
    ("--hub.token abc --lr 1", "--hub.token [redacted] --lr 1"),
    ("--hub.token=abc --lr 1", "--hub.token=[redacted] --lr 1"),
    ("SOME_KEY='a b' run", "SOME_KEY='[redacted]' run"),
    ('{"password": "a b", "b": 1}', '{"password": "[redacted]", "b": 1}'),
    ("--use-token --lr 2", "--use-token --lr 2"),
    ("KeyError: 'x'; the key idea; key: expected 1", "KeyError: 'x'; the key idea; key: expected 1"),
    ("a hf_abc&d\"'123 b zzzzzz c short ordinary", "a [redacted] b [redacted] c short ordinary"),
    ("https://x/?q=hf_abc%26d%22%27123", "https://x/?q=[redacted]"),
    ({"token": 3, "a": {"api_key": ["x"], "use_token": True, "no_key": None}, "tokens": 5},
     {"token": "[redacted]", "a": {"api_key": "[redacted]", "use_token": True, "no_key": None}, "tokens": 5}),
    (["--hub.token", "abc", "--x", "y"], ["--hub.token", "[redacted]", "--x", "y"]),
    (["--use-token", "--x", ("zzzzzz", 1.5)], ["--use-token", "--x", ["[redacted]", 1.5]]),
    ({"zzzzzz": 1}, {"[redacted]": 1}),
    (None, None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), REDACTIONS)
def test_redaction(value, expected):
    assert redact(value, ENVIRONMENT) == expected
    assert redact(expected, ENVIRONMENT) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
secrets = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"]), min_size=6, max_size=12)


def strings(value):
    """Every text in a JSON value, the names included; numbers are no text, whatever digits they have."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@given(secrets, st.text(max_size=5), st.text(max_size=5), json_values)
def test_a_known_secret_is_in_no_text(secret, before, after, value):
    for whole in (f"{before}{secret}{after}", {"name": [value, {secret: f"{before}{secret}"}]}):
        cleaned = strings(redact(whole, {"THE_TOKEN": secret}))
        assert not [text for text in cleaned if secret in text.replace("[redacted]", "\0")]


@given(json_values)
def test_what_holds_no_secret_stays(value):
    cleaned = redact(value, {})
    assert redact(cleaned, {}) == cleaned
    assert redact({"lr": value}, {})["lr"] == cleaned


def test_long_texts_are_quick():
    begin = time.monotonic()
    redact("a" * 200_000 + " token" * 20_000 + "--" * 20_000, {})
    assert time.monotonic() - begin < 5
    assert redact(untyped(3), ENVIRONMENT) == 3
