"""R20: nothing tries to reach a network: every attempt in Python is audited, every attempt below it traced."""

import re
import shutil
import subprocess
import sys

import pytest
from harness import DRAWING, environment, scoring, vectors
from inputs import write_images

AUDITED = """if True:
    import socket, sys
    attempts = []
    def hook(event, arguments):
        local = event == "socket.__new__" and arguments[1] not in (socket.AF_INET, socket.AF_INET6, -1)
        address = arguments[-1] if event in ("socket.connect", "socket.bind", "socket.sendto") else None
        local = local or isinstance(address, (str, bytes)) or event == "socket.gethostname"
        if event.startswith("socket.") and not local:
            print("attempt:", event, arguments, flush=True)
            raise OSError("the network is closed")
    sys.addaudithook(hook)
    from equisct.app.cli import data, sample, train
    def call(main, *words):
        try:
            main(words)
        except SystemExit as end:
            assert not end.code, end.code
    points = sys.argv[1:]
    call(train.main, *points, "--log.tensorboard", "--run.dir", "run")
    call(sample.main, "run", "--n", "2", "--out", "out.npz")
    call(data.main, "check", "images")
    call(data.main, "preview", "images")
    call(data.main, "pack", "images", "--out", "a.array_record")
    print("all five passed")"""

COMMANDS = 5
ABROAD = re.compile(r"(connect|sendto|bind|sendmsg|socket)\(.*(AF_INET|AF_INET6|PF_INET)")


def traced(words, log):
    """The command under a tracer of system calls, where there is one that may trace."""
    tracer = shutil.which("strace")
    if tracer is None:
        return None
    trace = [tracer, "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,bind,sendmsg,socket", "-o", str(log)]
    works = subprocess.run([*trace, sys.executable, "-c", ""], capture_output=True, check=False).returncode == 0
    return [*trace, *words] if works else None


@pytest.mark.skipif(sys.platform == "win32", reason="folders of POSIX")
def test_nothing_reaches_for_a_network(tmp_path):
    write_images(tmp_path / "images", 12)
    words = [sys.executable, "-c", AUDITED, *vectors(tmp_path / "points.npz"), *DRAWING]
    log = tmp_path / "trace.txt"
    command = traced(words, log)
    note = "audited in Python" + (", traced below it" if command else "; no tracer of system calls here")
    with scoring("R20", "commands without a network: train, sample, data check, preview, pack", note) as score:
        env = environment(HOME=str(tmp_path / "home"))
        done = subprocess.run(command or words, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
        attempts = [line for line in done.stdout.splitlines() if line.startswith("attempt:")]
        below = [line for line in log.read_text().splitlines() if ABROAD.search(line)] if command else []
        assert (done.returncode, attempts, below) == (0, [], []), done.stderr[-2000:]
        assert "all five passed" in done.stdout
        for number in range(COMMANDS):
            score(passed=True, what=str(number))


def test_the_audit_sees_an_attempt(tmp_path):
    code = AUDITED.partition("from equisct")[0] + "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')"
    code = code.replace("\n    import urllib", "\n    import urllib")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "attempt: socket." in done.stdout
    assert done.returncode != 0
