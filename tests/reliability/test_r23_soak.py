"""R23: a long run neither grows nor compiles again."""

from reliability import harness

GROWTH = 0.05


def test_memory_and_compilations(tmp_path, arguments):
    steps = 2_000 if harness.full() else 200
    more = (
        "--run.steps",
        str(steps),
        "--log.every",
        "20",
        "--method.period",
        str(steps // 5),
        "--run.save-every",
        "40",
    )
    with harness.scoring("R23", f"{steps:,} updates over 3 stages of the curriculum, with saves") as score:
        ended = harness.train(tmp_path / "run", *arguments, *more, hooks=[f"count={tmp_path / 'count.jsonl'}"])
        assert ended.code == 0, ended.err
        found = harness.rows(tmp_path / "count.jsonl")
        stages = {row["points"] for row in harness.rows(tmp_path / "run" / "metrics.jsonl")}
        assert len(stages) >= 3
        settled = found[len(found) // 10]
        again = found[-1]["compilations"] - settled["compilations"]
        score(again == 0, f"{again} compilations after update {settled['step']}")
        growth = max(row["resident"] for row in found[len(found) // 10 :]) / settled["resident"] - 1
        score(
            growth <= GROWTH or not harness.full(), f"memory grew by {100 * growth:.1f} % from update {settled['step']}"
        )
