"""R21: a second run in one folder is refused at once; that of a dead owner is taken over."""

import re
import signal
import time

from reliability import harness


def test_second_is_refused_and_dead_owner_replaced(tmp_path, arguments, unbroken):
    folder = tmp_path / "run"
    with harness.scoring("R21", "a second command on a running folder; then kill -9 of the first") as score:
        first = harness.start(folder, *arguments, hooks=["slow=15:300"], on=0)
        first.until(lambda: 10 in harness.steps(folder))
        before = (folder / "metrics.jsonl").read_bytes(), (folder / "STATUS.json").read_bytes()
        second = harness.start(tmp_path / "run", *arguments, hooks=["ready=yes"], on=1).wait()
        ready = re.search(r"ready at ([\d.]+)", second.err)
        assert ready is not None, second.err
        seconds = time.time() - float(ready[1])
        score(second.code == 4, f"exit {second.code}: {second.err[-300:]}")
        score(seconds < 3, f"refused after {seconds:.1f} s, without Python's start")
        score(f"held by process {first.process.pid}" in second.err, f"names the owner: {second.err[-300:]}")
        after = (folder / "metrics.jsonl").read_bytes(), (folder / "STATUS.json").read_bytes()
        score(before == after and first.process.poll() is None, "the first is unharmed")
        first.send(signal.SIGKILL)
        score(first.wait().code == -9, "the owner is dead")
        third = harness.train(folder, *arguments)
        score(third.code == 0 and "resuming from step 10" in third.err, f"taken over: {third.code}, {third.err[-300:]}")
        score(harness.state_hash(folder) == harness.state_hash(unbroken), "same bits")
