"""The pictures of a run: grids of samples from one fixed noise while it goes, and the whole sheet at its end."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from PIL import Image

from ..parts.recipe import build_oracle
from ..parts.sampling import draw_samples
from ..report import draw_panels
from ..settings.config import Config
from ..settings.data import Mixture
from .folder import settings_hash
from .job import Running


def on_this_process(model: Any) -> Any:
    """The model with every array whole in this process; all processes call it together."""
    spread = lambda leaf: isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    gather = lambda leaf: multihost_utils.process_allgather(leaf, tiled=True)
    return jax.tree.map(lambda leaf: gather(leaf) if spread(leaf) else leaf, model)


def draw_sheet(run: Running, models: dict[str, Any], step: int, *, final: bool) -> list[pathlib.Path]:
    """One picture per model, `samples/step_NNNNNNNN_NAME.png`, for the trackers too; the files.

    By the method's samplers; in the last ones by all.
    """
    job, config, shape = run.job, run.job.config, tuple(run.job.notes["shape"])
    samplers = job.system.samplers(step) + (job.system.last_samplers if final else ())
    given = {"key": job.sample_key, "between": run.interruption.check}
    paths = {}
    for name, model in models.items():
        panels = {each.name: draw_samples(each, model, shape, config.sample.n, **given) for each in samplers}
        paths[name] = job.folder / "samples" / f"step_{step:08d}_{name}.png"
        notes = {"step": str(step), "weights": name, "seed": str(config.run.seed), "preset": config.preset}
        draw_panels(panels, paths[name], notes=notes | {"settings": settings_hash(job.folder)})
    for name, path in paths.items():
        with Image.open(path) as picture:
            run.recorder.image(step, f"samples/{name}", np.asarray(picture.convert("RGB")))
    return list(paths.values())


def report_agreement(config: Config, model: Any, key: Any, folder: pathlib.Path) -> None:
    """Prints and stores how far the model is from the mixture's exact flow map, posterior mean, or both."""
    assert isinstance(config.data, Mixture)
    noise = config.noise
    levels = jnp.array([0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, noise.sigma_max])
    from ... import diagnostics

    agreement = diagnostics.measure_agreement(
        model, build_oracle(config.data), levels, samples=2_000, sigma_min=noise.sigma_min, key=key
    )
    text = (
        "Distance from the truth (data units; data within about 1.5): one-step endpoint against the diffrax\n"
        "solution of the exact PF-ODE, score head against the exact posterior mean.\n"
        + diagnostics.format_agreement(agreement)
    )
    (folder / "agreement.txt").write_text(text + "\n")
    print(text)
