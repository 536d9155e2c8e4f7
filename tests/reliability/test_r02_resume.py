"""R2: a run stopped and gone on with, anywhere, leaves the same bits as one that was not."""

import random

from reliability import harness

PLACES = {"one update": 1, "an epoch's edge": 12, "a change of the curriculum": 20, "the last update": 30}
"""The 96 points are 12 batches; a stage of the curriculum is 10 updates (and 20 is the edge of a save)."""


def test_interruptions_leave_no_trace(tmp_path, arguments, unbroken):
    anywhere = random.Random(2).sample(range(2, 29), 2)
    places = [*PLACES.values(), *anywhere] if harness.full() else [1, 12]
    with harness.scoring("R2", f"SIGTERM after updates {places}, then the same command") as score:
        for place in places if harness.full() else [places]:
            folder = tmp_path / f"stopped-{place if isinstance(place, int) else 'twice'}"
            for stop in [place] if isinstance(place, int) else place:
                stopped = harness.train(folder, *arguments, hooks=[f"stop={stop}"])
                assert stopped.code == 75, stopped.err
                assert harness.steps(folder)[-1] == stop
            resumed = harness.train(folder, *arguments)
            assert resumed.code == 0, resumed.err
            assert f"resuming from step {stop} of 30" in resumed.err
            different = harness.differing(harness.leaves(unbroken), harness.leaves(folder))
            same_rows = harness.metric_rows(unbroken) == harness.metric_rows(folder)
            score(not different and same_rows, f"{place}: {different}, rows equal: {same_rows}")
            score(harness.leftovers(folder) == [], f"{place}: left {harness.leftovers(folder)}")
