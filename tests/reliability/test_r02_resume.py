"""R2: a run stopped and gone on with, anywhere, leaves the same bits as one that was not."""

import random

from reliability import harness, storm

PLACES = {"one update": 1, "an epoch's edge": 12, "a change of the curriculum": 20, "the last update": 30}
"""The 96 points are 12 batches; a stage of the curriculum is 10 updates (and 20 is the edge of a save)."""


def test_interruptions_leave_no_trace(tmp_path, arguments, unbroken):
    anywhere = random.Random(2).sample(range(2, 29), 2)
    places = [*PLACES.values(), *anywhere] if harness.full() else [1, 12]
    with harness.scoring("R2", f"SIGTERM after updates {places}, then the same command") as score:
        for stops in [[place] for place in places] if harness.full() else [places]:
            folder = tmp_path / f"stopped-{'-'.join(map(str, stops))}"
            for stop in stops:
                stopped = harness.train(folder, *arguments, hooks=[f"stop={stop}"])
                assert stopped.code == 75, stopped.err
                assert harness.steps(folder)[-1] == stop
            resumed = harness.train(folder, *arguments)
            assert resumed.code == 0, resumed.err
            assert f"resuming from step {stops[-1]} of 30" in resumed.err
            problems = storm.verdict(unbroken, folder)
            score(problems == [], f"{stops}: {problems}")
