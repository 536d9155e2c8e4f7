"""The noise of the consistency gradient at the frozen weights of a branch's end (branching.py)."""

import dataclasses
import json
from typing import Any

from branching_runs import Trunk

BATCHES = 64


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A branch at its end, under fresh batches: the unit of work of one core."""

    trunk: Trunk
    late: str

    def __call__(self) -> dict[str, float]:
        """Of the torso's gradient of the consistency loss alone, at the last stage and the current weights.

        `trace` is the trace of its covariance between batches of the run's size, `critical` the batch size at which
        noise and signal are of one size. All branches see the same batches, levels and noise.
        """
        folder = self.trunk.folder(self.late)
        note = folder / "noise.json"
        if note.is_file():
            return json.loads(note.read_text())
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        import jax.random as jr
        import numpy as np
        from jax.flatten_util import ravel_pytree

        from equisct.app.parts.data import load_data
        from equisct.app.runs.stored import load_run
        from equisct.model import consistency_part

        stored = load_run(folder)
        config, model = stored.config, stored.model
        dataset = load_data(config.data, seed=config.run.seed)
        guided: Any = config.method.build(config, stored.shape).objective(None, dataset)
        torso, rest = eqx.partition(consistency_part(model).torso, eqx.is_inexact_array)

        @jax.jit
        def gradient(batch, key):
            def loss(torso):
                whole = eqx.tree_at(lambda model: consistency_part(model).torso, model, eqx.combine(torso, rest))
                return guided.base(whole, batch, config.run.steps - 1, key=key)[0]

            return ravel_pytree(jax.grad(loss)(torso))[0]

        rows = np.random.default_rng(0).integers(0, dataset.size, (BATCHES, config.run.batch))
        found = [gradient(dataset.take(chosen), jr.key(i)) for i, chosen in enumerate(rows)]
        gradients = np.asarray(jnp.stack(found), np.float64)
        trace = float(gradients.var(0, ddof=1).sum())
        signal = float(np.square(gradients.mean(0)).sum() - trace / BATCHES)  # without bias
        figures = {"trace": trace, "signal": signal, "critical": config.run.batch * trace / max(signal, 1e-30)}
        note.write_text(json.dumps(figures))
        return figures
