"""A finite data set as a distribution: what a network that has memorised its training set would compute.

The posterior mean is attention with the data set as keys and values, so it is computed like that: block by block with
a running softmax (Milakov & Gimelshein 2018), two matrix products a block, never more than a block's logits in memory.
"""

import functools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Bool, Float

from .._base.check import check_at_least
from .._base.concrete import check_array
from .._base.types import Key, Level, Scalar
from ..diffusion import score_from_denoised
from .abstract import AbstractOracle

BLOCK = 4096
NEAREST = 16
"""Points of each block whose distance is taken from differences: where noise is low only the nearest ones count, and a
matrix product would lose them to rounding."""


class _Sums(NamedTuple):
    """Sums over points of `w = exp((least - square) / (2 sigma^2))`: of w, of w^2, and of w times the point.

    The weights come of differences of square distances: logits at low levels are so large that one rounded product
    less, where a compiler fuses it with the subtraction of the maximum, would leave no weight at all.
    """

    least: Array
    total: Array
    squares: Array
    weighted: Array

    def rescaled(self, least: Array, sigma: Level) -> "_Sums":
        factor = jnp.exp((least - self.least) / (2 * sigma**2))
        return _Sums(least, self.total * factor, self.squares * factor**2, self.weighted * factor)


def _square_distances(points: Array, x_t: Array) -> Array:
    """`|x_t - point|^2` of every row, from one matrix product but for the nearest."""
    product = jnp.matmul(points, x_t, precision="highest")
    squares = jnp.sum(jnp.square(points), axis=1) - 2 * product + jnp.sum(jnp.square(x_t))
    _, nearest = lax.top_k(-squares, min(NEAREST, len(points)))
    return squares.at[nearest].set(jnp.sum(jnp.square(x_t[None] - points[nearest]), axis=1))


def _sums(points: Array, mask: Array | None, x_t: Array, sigma: Level, block: int) -> _Sums:
    rows, centre = min(block, len(points)), points[0]  # far from zero, the products would lose the differences

    def add(sums: _Sums, start: Array) -> tuple[_Sums, None]:
        first = jnp.minimum(start, len(points) - rows)  # the last block begins early, and passes by what was seen
        part = lax.dynamic_slice_in_dim(points, first, rows) - centre[None]
        counts = first + jnp.arange(rows) >= start
        if mask is not None:
            counts &= lax.dynamic_slice_in_dim(mask, first, rows)
        squares = jnp.where(counts, _square_distances(part, x_t - centre), jnp.inf)
        old = sums.rescaled(jnp.minimum(sums.least, squares.min()), sigma)
        weights = jnp.exp((old.least - squares) / (2 * sigma**2))
        weighted = old.weighted + jnp.matmul(weights, part, precision="highest")
        return _Sums(old.least, old.total + weights.sum(), old.squares + jnp.square(weights).sum(), weighted), None

    kind = jnp.result_type(points, x_t)
    far = jnp.array(jnp.finfo(kind).max, kind)  # finite, or differences would be nan
    none = _Sums(far, jnp.zeros((), kind), jnp.zeros((), kind), jnp.zeros(points.shape[1:], kind))
    sums, _ = lax.scan(add, none, jnp.arange(0, len(points), rows))
    return sums._replace(weighted=sums.weighted + sums.total * centre)


def _sums_over_devices(points: Array, mask: Array | None, x_t: Array, sigma: Level, block: int, mesh: Mesh) -> _Sums:
    axes = mesh.axis_names
    rows = PartitionSpec(axes)

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(rows, rows, PartitionSpec(), PartitionSpec()), out_specs=PartitionSpec(),
        check_vma=False,
    )  # fmt: skip
    def everywhere(points: Array, mask: Array | None, x_t: Array, sigma: Array) -> _Sums:
        own = _sums(points, mask, x_t, sigma, block)
        own = own.rescaled(lax.pmin(own.least, axes), sigma)
        return _Sums(own.least, *lax.psum(tuple(own[1:]), axes))

    return everywhere(points, mask, x_t, jnp.asarray(sigma))


def _check_sample(x_t: Array, points: Array) -> None:
    if x_t.shape != points.shape[1:]:
        raise ValueError(f"x_t: expected the shape of the data set's samples, {points.shape[1:]}, found {x_t.shape}")


class Empirical(AbstractOracle):
    """Equal point masses on a data set; every level must be > 0.

    One evaluation reads the whole data set: `4 n size` operations for a sample. Under `jax.vmap` a batch shares each
    reading. The memory beside the points is `block` numbers a sample.

    Args:
        points: the data set, one sample per row.
        block: points that are looked at at once, >= 1.
        mesh: of devices among which the points are divided; they must divide the number of points.

    Raises:
        ValueError: if the points are none, or not finite, or cannot be divided among the devices.
    """

    points: Float[Array, "n *shape"]
    block: int = eqx.field(static=True, default=BLOCK)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_array("points", self.points)
        check_at_least("block", self.block, 1)
        if self.mesh is not None and len(self.points) % self.mesh.size:
            raise ValueError(
                f"points: expected a number that {self.mesh.size} devices divide, found {len(self.points)}"
            )

    def _sums(self, x_t: Array, sigma: Level, mask: Array | None) -> _Sums:
        _check_sample(x_t, self.points)
        rows = self.points.reshape(len(self.points), -1)
        if self.mesh is None:
            return _sums(rows, mask, x_t.reshape(-1), sigma, self.block)
        return _sums_over_devices(rows, mask, x_t.reshape(-1), sigma, self.block, self.mesh)

    def posterior(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "n"]:
        """The probability of each point given `x_t`: the softmax of `-|x_t - points_i|^2 / (2 sigma^2)`."""
        _check_sample(x_t, self.points)
        rows, centre = self.points.reshape(len(self.points), -1), self.points[0].reshape(-1)
        squares = _square_distances(rows - centre[None], x_t.reshape(-1) - centre)
        weights = jnp.exp((squares.min() - squares) / (2 * sigma**2))
        return weights / weights.sum()

    def log_prob(self, x_t: Float[Array, "*shape"], sigma: Level) -> Scalar:
        """`log p_sigma(x_t)`."""
        sums = self._sums(x_t, sigma, None)
        normaliser = x_t.size / 2 * jnp.log(2 * math.pi * sigma**2) + math.log(len(self.points))
        return jnp.log(sums.total) - sums.least / (2 * sigma**2) - normaliser

    def denoise(
        self, x_t: Float[Array, "*shape"], sigma: Level, *, mask: Bool[Array, "n"] | None = None
    ) -> Float[Array, "*shape"]:
        """The posterior mean: the points, averaged by `posterior`.

        Args:
            x_t: one noised sample.
            sigma: its level.
            mask: the points that count, such as those of the sample's class; by default all. None left gives nan.
        """
        sums = self._sums(x_t, sigma, mask)
        return (sums.weighted / sums.total).reshape(x_t.shape)

    def posterior_covariance(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "size size"]:
        """The posterior covariance of the points as vectors; it holds a probability for every point in memory."""
        posterior, rows = self.posterior(x_t, sigma), self.points.reshape(len(self.points), -1)
        spread = rows - self.denoise(x_t, sigma).reshape(1, -1)
        return jnp.matmul((posterior[:, None] * spread).T, spread, precision="highest")

    def effective_samples(
        self, x_t: Float[Array, "*shape"], sigma: Level, *, mask: Bool[Array, "n"] | None = None
    ) -> Scalar:
        """How many points stand behind `denoise`: `1 / sum posterior^2`, from 1 to their number."""
        sums = self._sums(x_t, sigma, mask)
        return jnp.square(sums.total) / sums.squares

    def score(self, x_t: Float[Array, "*shape"], sigma: Level) -> Float[Array, "*shape"]:
        """`grad log p_sigma(x_t)`."""
        return score_from_denoised(self.denoise(x_t, sigma), x_t, sigma)

    def sample(self, *, key: Key) -> Float[Array, "..."]:
        """One of the points."""
        return self.points[jr.randint(key, (), 0, self.points.shape[0])]
