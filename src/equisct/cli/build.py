"""From a configuration to the building blocks: model, objective, optimiser. Nothing here trains."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax

from .._types import Key
from ..curriculum import Doubling
from ..distance import L1, AbstractDistance, PseudoHuber, PseudoHuberNorm, PseudoHuberRMS, SquaredL2
from ..level_sampling import LogNormal
from ..model import ConsistencyModel, EndpointScaling, ScoreGuidedModel, ScoreHead
from ..nn import EmbeddingEntry, HeadMLP, HeadUNet, SongUNet, TorsoMLP, ncsnpp
from ..objectives.score_guided import ScoreGuided, ScoreGuidedTraining
from ..oracle import ProductMixture
from ..preconditioning import BoundaryPreconditioning, EDMPreconditioning
from ..train import AbstractAverage, ConstantDecay, PowerFunction, Recipe
from ..weighting import ConstantWeighting, EDMWeighting
from .config import Config, Ema, Head, Method, Optim, Torso
from .data_config import Mixture
from .source import rotated_modes


def build_model(config: Config, shape: tuple[int, ...], *, key: Key) -> ScoreGuidedModel:
    """The consistency model and score head for samples of `shape`, `(c, h, w)` or `(d,)`."""
    torso_key, head_key = jr.split(key)
    noise = config.noise
    boundary = BoundaryPreconditioning(sigma_data=noise.sigma_data, sigma_min=noise.sigma_min)
    edm = EDMPreconditioning(sigma_data=noise.sigma_data)
    if len(shape) == 1:
        torso, head = _mlps(config.torso, config.head, shape, torso_key, head_key)
    else:
        torso, head = _unets(config.torso, config.head, shape, torso_key, head_key, remat=config.parallel.remat)
    return ScoreGuidedModel(
        ConsistencyModel(torso, boundary),
        ScoreHead(
            head,
            boundary if config.head.preconditioning == "boundary" else edm,
            guide=config.head.guide,
            endpoint_scaling=EndpointScaling(config.head.endpoint_scaling),
            sigma_data=noise.sigma_data,
        ),
    )


def _mlps(torso: Torso, head: Head, shape: tuple[int, ...], torso_key: Key, head_key: Key) -> tuple[TorsoMLP, HeadMLP]:
    scale = torso.fourier_scale
    return (
        TorsoMLP(shape[0], torso.width, depth=torso.blocks, fourier_scale=scale, key=torso_key),
        HeadMLP(shape[0], head.width, depth=head.blocks, torso_width=torso.width, fourier_scale=scale, key=head_key),
    )


def _unets(
    torso: Torso, head: Head, shape: tuple[int, ...], torso_key: Key, head_key: Key, *, remat: bool
) -> tuple[SongUNet, HeadUNet]:
    channels, height, width = shape
    if height != width:
        raise ValueError(f"data: expected square images, found {height} x {width}")
    for name, net in (("torso", torso), ("head", head)):
        _check_resolutions(name, net, height)
    return (
        ncsnpp(
            channels=channels,
            resolution=height,
            width=torso.width,
            multipliers=torso.multipliers,
            blocks=torso.blocks,
            attention=torso.attention,
            dropout=torso.dropout,
            fourier_scale=torso.fourier_scale,
            tap_before_norm=torso.tap_before_norm,
            remat=remat,
            key=torso_key,
        ),
        HeadUNet(
            channels=channels,
            torso_channels=torso.width * torso.multipliers[0],
            torso_embedding=4 * torso.width,
            resolution=height,
            width=head.width,
            multipliers=head.multipliers,
            blocks=head.blocks,
            attention=head.attention,
            dropout=head.dropout,
            layer_norm=head.layer_norm,
            entry_conv=head.entry_conv,
            embedding_entry=EmbeddingEntry(head.embedding),
            remat=remat,
            key=head_key,
        ),
    )


def _check_resolutions(name: str, net: Torso | Head, resolution: int) -> None:
    """Raises `ValueError` unless the U-Net's levels exist at this resolution, and those of its attention among them."""
    halvings = (resolution & -resolution).bit_length() - 1
    if len(net.multipliers) > halvings + 1:
        raise ValueError(
            f"{name}.multipliers: expected at most {halvings + 1} for images of {resolution} x {resolution}, "
            f"found {len(net.multipliers)}"
        )
    levels = tuple(resolution // 2**level for level in range(len(net.multipliers)))
    for size in net.attention:
        if size not in levels:
            raise ValueError(f"{name}.attention: expected resolutions of the network, {levels}, found {size}")


def build_distance(method: Method) -> AbstractDistance:
    """The distance by its name on the command line."""
    kinds = {
        "pseudo-huber": PseudoHuber,
        "pseudo-huber-rms": PseudoHuberRMS,
        "pseudo-huber-norm": PseudoHuberNorm,
        "squared-l2": SquaredL2,
        "l1": L1,
    }
    kind = kinds[method.distance]
    if method.c is None:
        return kind()
    if kind in (SquaredL2, L1):
        raise ValueError(f"method.c: expected none with the distance {method.distance}, found {method.c}")
    return kind(method.c)


def build_curriculum(method: Method, steps: int) -> Doubling:
    """The doubling curriculum, its period as configured or such that the run ends with its last stage."""
    if method.period is None:
        return Doubling.from_total(steps, first=method.first, last=method.last)
    return Doubling(method.first, method.last, period=method.period)


def build_objective(config: Config) -> ScoreGuided:
    """Score-guided consistency training with the configured curriculum, distance and weightings."""
    method, noise = config.method, config.noise
    edm = EDMWeighting(sigma_data=noise.sigma_data)
    return ScoreGuidedTraining(
        curriculum=build_curriculum(method, config.run.steps),
        distance=build_distance(method),
        head_weight=method.head_weight,
        head_weighting=edm if method.head_weighting == "edm" else ConstantWeighting(),
        law=LogNormal(mean=method.law_mean, std=method.law_std),
        sigma_min=noise.sigma_min,
        sigma_max=noise.sigma_max,
        rho=noise.rho,
        stratify=method.stratify,
    )


def build_optimiser(optim: Optim, steps: int) -> optax.GradientTransformation:
    """RAdam for torso and head, each at its learning rate, behind an optional clip."""

    def radam(lr: float) -> optax.GradientTransformation:
        return optax.radam(_learning_rate(optim, lr, steps), b1=optim.b1, b2=optim.b2)

    def labels(model: Any) -> Any:
        filled = ScoreGuidedModel("cm", "head")  # type: ignore[arg-type]
        return eqx.tree_at(lambda m: (m.cm, m.head), model, (filled.cm, filled.head))

    head_lr = optim.lr if optim.head_lr is None else optim.head_lr
    both = radam(optim.lr)
    if head_lr != optim.lr:
        both = optax.partition({"cm": radam(optim.lr), "head": radam(head_lr)}, labels)
    return both if optim.clip is None else optax.chain(optax.clip_by_global_norm(optim.clip), both)


def _learning_rate(optim: Optim, lr: float, steps: int) -> float | optax.Schedule:
    if not optim.warmup and not optim.decay:
        return lr
    rise = optax.linear_schedule(0.0, lr, optim.warmup) if optim.warmup else optax.constant_schedule(lr)
    if not optim.decay:
        return rise
    half = max(steps // 2, optim.warmup)
    fall = optax.cosine_decay_schedule(lr, max(steps - half, 1))
    return optax.join_schedules([rise, fall], [half])


def build_recipe(config: Config) -> Recipe:
    """Objective, optimiser, weight averages and how an update is computed."""
    return Recipe(
        build_objective(config),
        build_optimiser(config.optim, config.run.steps),
        ema_decay=config.ema.decay,
        averages=build_averages(config.ema),
        gradient_parts=config.log.gradient_parts,
        microbatches=config.parallel.microbatches,
        compute_dtype=jnp.dtype(config.parallel.precision).type,
    )


def build_averages(ema: Ema) -> tuple[AbstractAverage, ...]:
    """The averages beside the main one: those of constant rate, then those of power-function shape."""
    return (*map(ConstantDecay, ema.decays), *map(PowerFunction.from_std, ema.stds))


def build_oracle(mixture: Mixture) -> ProductMixture:
    """The closed-form law that `Mixture` data are drawn from."""
    modes, rotation = rotated_modes(mixture)
    return ProductMixture(jnp.asarray(modes), jnp.asarray(mixture.std), jnp.asarray(rotation))
