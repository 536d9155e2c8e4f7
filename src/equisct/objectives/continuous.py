"""The continuous limit of consistency training: sCT (Lu & Song 2024), and sCD where the velocity is a teacher's.

Notation: s is sigma, sd sigma_data, f the endpoint, u the PF-ODE's velocity `dx_t/ds` or an estimate of it, `x_hat =
x_t - s u` the clean sample it points at (under one-sample noise the sample itself). TrigFlow's angle tau has `tan(tau)
= s / sd`; its sample is `cos(tau) x_t`, its network F gives `f = cos(tau)^2 x_t - sin(tau) sd F` (see
`TrigFlowPreconditioning`). The paper's tangent, with F cut and r going from 0 to 1 in the warm-up, is

    g = -cos(tau)^2 (sd F - d(cos(tau) x_t)/dtau) - r cos(tau) sin(tau) (cos(tau) x_t + sd dF/dtau).

Both parts follow from the endpoint alone. By `cos(tau) sin(tau) d/dtau = d/d(ln s)` the two clocks are related, and
`sd F - d(cos(tau) x_t)/dtau = (x_hat - f) / sin(tau)`. Hence

    g = [(1 - r) cos(tau)^2 (f - x_hat) + r df/d(ln s)] / sin(tau),

where `df/d(ln s)` is one Jacobian-vector product of the endpoint, along `(s u, s)`. This form is computed here. It
takes a model of any preconditioning. It is also sound in low precision, as the paper's form is:

* The paper takes the factor `cos(tau) sin(tau)` into the product's tangents so that they stay bounded. Here ln s as the
  clock does that: the network's input moves by `s d(c_in x_t)/ds`, of unit size, its clock by at most 1/2. Along `(u,
  1)` the clock `ln(s) / 4` would move by 1 / (4 s).
* At small s each term in the brackets is of order s, and no larger ones cancel, but for `f - x_hat` in the warm-up,
  where rounding is 3e-5 of what remains at 0.002. In float32 g is off by less than 1e-4 of its size (tested).
* A finite difference of two endpoints would divide their rounding by the gap. The product has no gap.
* In bfloat16 F and its derivative are rounded, about 1 %; everything around the network is float32.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._base.batch import given
from .._base.check import check_at_least, check_levels, check_positive
from .._base.defaults import (
    SCT_LAW_MEAN,
    SCT_LAW_STD,
    SCT_TANGENT_C,
    SCT_WARMUP,
    SIGMA_DATA,
    SIGMA_MAX,
    SIGMA_MIN,
)
from .._base.tree import cut
from .._base.types import Denoiser, Examples, Key, Level, Sample, Scalar, Step
from ..diffusion import perturb
from ..discretization import LevelPair
from ..level_sampling import AbstractLevels, AbstractSingleLevel, LogNormal
from ..model import ConsistencyModel, consistency_part
from .border import warn_of_scale
from .readout import AbstractReadoutObjective, TorsoPass, check_readout
from .slots import Coupling, Draw, Velocity, checked_field, draw_pairs
from .terms import Part, SampleLoss, Terms, bin_edges, collect_terms
from .velocity import one_sample_velocity


def trigflow_tangent(
    endpoint: Denoiser,
    x_t: Sample,
    velocity: Sample,
    sigma: Level,
    *,
    sigma_data: float = SIGMA_DATA,
    share: Level = 1.0,
) -> Sample:
    """How fast the endpoint moves along the PF-ODE: the tangent of sCT (Lu & Song 2024, eq. 7 and Algorithm 1).

    It is `df/d(ln sigma) / sin(tau)`, `tan(tau) = sigma / sigma_data`, 0 where `endpoint` is the exact flow map and
    `velocity` the exact one; linear in `velocity`, so under one-sample noise only its mean given `x_t` is 0 there.

    Args:
        endpoint: `(x_t, sigma) -> sample`, differentiable forwards; evaluated once, with one Jacobian-vector product.
        x_t: the noised sample.
        velocity: `dx_t / dsigma` there.
        sigma: the level, > 0.
        sigma_data: standard deviation of the data, > 0.
        share: r of the warm-up, in [0, 1]; the rest is that of denoising, `cos(tau)^2 (f - x_hat) / sin(tau)`.
    """
    x_t, sigma = jnp.asarray(x_t), jnp.asarray(sigma)
    f, along = jax.jvp(endpoint, (x_t, sigma), ((sigma * velocity).astype(x_t.dtype), sigma))
    norm = jnp.sqrt(sigma**2 + sigma_data**2)
    sine, cosine = sigma / norm, sigma_data / norm
    to_denoised = cosine**2 * (f - (x_t - sigma * velocity))
    return ((1 - share) * to_denoised + share * along) / sine


class _Coinciding(AbstractLevels):
    """Pairs whose gap is 0, the continuous limit; not bounded by the two levels."""

    law: AbstractSingleLevel
    sigma_min: float = SIGMA_MIN  # pyright: ignore[reportIncompatibleMethodOverride]  (a field stands for the property)
    sigma_max: float = SIGMA_MAX  # pyright: ignore[reportIncompatibleMethodOverride]  (a field stands for the property)

    def draw(self, stage: Step, u: Scalar) -> LevelPair:
        t = self.law.level(u)
        return LevelPair(t, t, jnp.zeros_like(t))


class ContinuousConsistency(AbstractReadoutObjective):
    """Consistency training in the limit of a fine grid (sCT, Lu & Song 2024); `(model, batch, step, *, key)`.

    The loss of one sample is `e^w mean((F - cut(F) - G)^2) - w`: the network is moved along the normalised tangent `G =
    g / (|g| + c)`, with w = `model.log_weight(sigma)` where the model has one, else 0. `F - cut(F)` is computed as that
    of the endpoints over `-sigma_data sin(tau)`. G has no gradient. The value says nothing about the model (`|G|` is
    about 1), so `|g|` is logged beside it as `tangent`.

    Without normalisation and weight (`tangent_c=None`) and after the warm-up, its gradient is the limit of that of
    `Consistency` with `SquaredL2` and the weight `1 / (gap sin(tau) cos(tau))` as the gap goes to 0. At the beginning
    of the warm-up it is that of `Denoising` with `NoiseWeighting`, times `sigma_data`: the endpoint is drawn to what
    the velocity points at. Its mean over the data is 0 at the exact flow map (of level 0) after the warm-up, for any
    unbiased velocity. Normalised, only for an exact velocity: the mean of `g / (|g| + c)` is not that of g. Take
    `DenoiserVelocity(oracle.Empirical(points).denoise)` for a training set, a teacher's for sCD.

    The tangent's pass of the network has the student's dropout bits and no gradient. XLA computes what it shares with
    the student's once: a step costs what one of `Consistency` does.

    Args:
        law: of the level; by default the paper's for CIFAR-10, `LogNormal(-1.0, 1.4)`. Not bounded by the two levels.
        velocity: `(model, draw, student) -> field`: the direction along which the endpoint is to stay. `draw.pair` has
            one level twice.
        warmup: updates over which r goes from 0 to 1; 0: none.
        tangent_c: c of the normalisation, > 0, in data units; None leaves the tangent as it is.
        sigma_data: standard deviation of the data, > 0; that of the model's preconditioning.
        coupling: which noise goes with which sample; by default as drawn.
        stratify: spread the batch's level draws evenly over the law.
        sigma_min: lower end of the bins of the reported loss per level; bounds no level.
        sigma_max: their upper end.
    """

    law: AbstractSingleLevel = LogNormal(SCT_LAW_MEAN, SCT_LAW_STD)
    velocity: Velocity = one_sample_velocity
    warmup: int = SCT_WARMUP
    tangent_c: float | None = SCT_TANGENT_C
    sigma_data: float = SIGMA_DATA
    coupling: Coupling | None = None
    stratify: bool = eqx.field(static=True, default=False)
    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX

    def __check_init__(self) -> None:
        check_at_least("warmup", self.warmup, 0)
        if self.tangent_c is not None:
            check_positive("tangent_c", self.tangent_c)
        check_positive("sigma_data", self.sigma_data)
        check_levels(self.sigma_min, self.sigma_max)

    def check(self, model: PyTree) -> None:
        """Warns of a data set of another scale that the velocity holds.

        Raises:
            ValueError: if the model's preconditioning is for data of another standard deviation.
        """
        cm = consistency_part(model)
        found = getattr(cm.preconditioning, "sigma_data", None) if isinstance(cm, ConsistencyModel) else None
        if found is not None and not np.isclose(found, self.sigma_data):
            expected = f"{self.sigma_data:g} as the objective's"
            raise ValueError(f"sigma_data: expected {expected} in the model's preconditioning, found {found:g}")
        warn_of_scale(self.velocity, cm)

    def draw(self, batch: Examples, step: Step, *, key: Key) -> Draw:
        """The noise, level and keys of every sample (a batched `Draw`)."""
        levels = _Coinciding(self.law)
        return draw_pairs(levels, 0, batch, stratify=self.stratify, coupling=self.coupling, step=step, key=key)

    def sample_loss(self, model: PyTree, draw: Draw) -> tuple[dict[str, SampleLoss], TorsoPass]:
        """One sample's loss, `consistency`, the norm of its tangent, `tangent`, and the student's pass at `x_t`."""
        t, fixed, told = jnp.asarray(draw.pair.t), cut(model), given(draw.condition)
        x_t, cm, cut_cm = perturb(draw.x, draw.z, t), consistency_part(model), consistency_part(fixed)
        student = check_readout(cm(x_t, t, key=draw.keys.student, **told), cm)
        seen = TorsoPass(draw.x, x_t, t, student, draw.keys.head, draw.condition)
        field = checked_field(self.velocity(fixed, draw, dataclasses.replace(seen, readout=cut(student))))

        def endpoint(x_t: Sample, sigma: Level) -> Sample:
            return cut_cm(x_t, sigma, key=draw.keys.student, **told).endpoint

        share = jnp.minimum(jnp.asarray(draw.step, t.dtype) / self.warmup, 1) if self.warmup else 1.0
        tangent = cut(trigflow_tangent(endpoint, x_t, field(x_t, t), t, sigma_data=self.sigma_data, share=share))
        size = jnp.linalg.norm(tangent)
        scaled = tangent if self.tangent_c is None else tangent / (size + self.tangent_c)
        change = (
            jnp.sqrt(t**2 + self.sigma_data**2) / (self.sigma_data * t) * (student.endpoint - cut(student.endpoint))
        )
        log_weight = cm.log_weight if isinstance(cm, ConsistencyModel) else None
        w = jnp.zeros_like(t) if log_weight is None else log_weight(t)
        loss = jnp.exp(w) * jnp.mean(jnp.square(change + scaled)) - w  # F - cut(F) is -change
        return {"consistency": SampleLoss(loss, t), "tangent": SampleLoss(size, t)}, seen

    def reduce(self, losses: dict[str, SampleLoss]) -> Terms:
        """The loss, and the norm of the tangent as a part of weight 0."""
        terms = collect_terms(losses, bin_edges(self.sigma_min, self.sigma_max))
        return Terms(terms.parts | {"tangent": Part(terms["tangent"], 0.0)}, terms.per_level)
