"""The pictures of a run: grids of samples from one fixed noise while it goes, and the whole sheet at its end."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils
from PIL import Image

from ..parts.conditions import conditions_to_show, in_a_row
from ..parts.data import some_of
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

    By the method's samplers, beside as many of the data; in the last ones by all.
    """
    job, config, shape = run.job, run.job.config, tuple(run.job.notes["shape"])
    samplers = job.system.samplers(step) + (job.system.last_samplers if final else ())
    told = conditions_to_show(config, job.dataset, config.sample.n)
    given = {"key": job.sample_key, "conditions": told, "between": run.interruption.check}
    paths, data = {}, some_of(job.dataset, config.sample.n)
    for name, model in models.items():
        panels = {each.name: draw_samples(each, model, shape, config.sample.n, **given) for each in samplers}
        paths[name] = job.folder / "samples" / f"step_{step:08d}_{name}.png"
        notes = {"step": str(step), "weights": name, "seed": str(config.run.seed), "preset": config.preset}
        across = in_a_row(config, config.sample.n)
        notes["settings"] = settings_hash(job.folder)
        draw_panels(panels, paths[name], data=data, across=across, notes=notes)
    for name, path in paths.items():
        with Image.open(path) as picture:
            run.recorder.image(step, f"samples/{name}", np.asarray(picture.convert("RGB")))
    return list(paths.values())


def report_agreement(config: Config, model: Any, key: Any, folder: pathlib.Path) -> None:
    """Prints and stores how far the model is from the mixture's exact flow map, posterior mean, or both."""
    text = "Distance from the truth (data units; data within about 1.5): "
    text += _of_steps(config, model, key) if config.method.learns_steps else _of_model(config, model, key)
    (folder / "agreement.txt").write_text(text + "\n")  # first, as nobody may be there to read the other
    print(text)


def _of_steps(config: Config, model: Any, key: Any) -> str:
    """The method's own samples against where the exact flow map leads from the same noise."""
    assert isinstance(config.data, Mixture)
    oracle, sampler = build_oracle(config.data), config.method.build(config, (2,)).samplers(config.run.steps)[0]
    top = config.noise.sigma_max
    x_t = top * jr.normal(key, (2_000, 2))
    found = jax.jit(jax.vmap(lambda x_t: sampler.from_level(model, x_t, top)))(x_t)
    ends = jax.jit(jax.vmap(lambda x_t: oracle.transport(x_t, top, 0.0)))(x_t)
    gap = np.linalg.norm(found - ends, axis=1)
    figures = f"{np.sqrt(np.square(gap).mean()):.4f} root mean square, {np.median(gap):.4f} median"
    return f"samples of\n{sampler.name} against the ends of the exact PF-ODE from the same noise: {figures}"


def _of_model(config: Config, model: Any, key: Any) -> str:
    """A table of levels."""
    assert isinstance(config.data, Mixture)
    noise = config.noise
    levels = jnp.array([0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, noise.sigma_max])
    from ... import diagnostics

    agreement = diagnostics.measure_agreement(
        model, build_oracle(config.data), levels, samples=2_000, sigma_min=noise.sigma_min, key=key
    )
    return (
        "one-step endpoint against the exact\n"
        "end of its path of the PF-ODE, score head against the exact posterior mean.\n"
        + diagnostics.format_agreement(agreement)
    )
