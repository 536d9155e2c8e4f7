"""Small residual MLPs for vectors: a torso and a head network (for low-dimensional data and for tests)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array
from jaxtyping import Float, PyTree

from .._base.tree import count, in_short
from .._base.types import Key, Level, Sample
from .condition import Embedder
from .embedding import FourierEmbedding, Mapping
from .interface import TorsoOutput, check_axes
from .layers import SMALL, LayerNorm, Linear


def _check_size(name: str, found: Array, size: int, *, of: str = "size") -> None:
    check_axes(found.shape, (size,))
    if found.shape != (size,):
        raise ValueError(f"{name}: expected shape ({size},), the network's {of}, found {found.shape}")


class _Trunk(eqx.Module):
    """Linear entry, then `depth` residual layers `h + second(silu(first(h) + affine(e)))`."""

    entry: Linear
    firsts: tuple[Linear, ...]
    affines: tuple[Linear, ...]
    seconds: tuple[Linear, ...]

    def __init__(self, size: int, width: int, depth: int, *, key: Key):
        entry_key, *keys = jr.split(key, 1 + 3 * depth)
        self.entry = Linear(size, width, key=entry_key)
        self.firsts = tuple(Linear(width, width, key=k) for k in keys[:depth])
        self.affines = tuple(Linear(width, width, key=k) for k in keys[depth : 2 * depth])
        self.seconds = tuple(Linear(width, width, gain=0.5, key=k) for k in keys[2 * depth :])

    def __call__(self, x: Float[Array, " size"], e: Float[Array, " width"]) -> Float[Array, " width"]:
        h, e = self.entry(x), e.astype(x.dtype)
        for first, affine, second in zip(self.firsts, self.affines, self.seconds, strict=True):
            h = h + second(jax.nn.silu(first(jax.nn.silu(h)) + affine(e)))
        return jax.nn.silu(h)


class TorsoMLP(eqx.Module):
    """A torso for vectors of `size` numbers: `(x, c_noise, *, condition=None, key=None) -> TorsoOutput`, no dropout.

    A condition's vector is added to the noise embedding, as in the U-Nets, and stands beside `x` at the entry too.

    Args:
        size: numbers of a sample.
        width: of the hidden layers and the noise embedding.
        depth: residual layers.
        fourier_scale: standard deviation of the Fourier frequencies of the noise embedding.
        condition: embedder of conditions, such as `nn.VectorEmbedding(4)`; without, the torso takes none.
        condition_dropout: share of the samples that train as if they had none, in [0, 1).

    Raises:
        ValueError: when called on a vector of another size.
        TypeError: when called on a batch; use `jax.vmap`.
    """

    mapping: Mapping
    trunk: _Trunk
    out: Linear

    def __init__(
        self,
        size: int,
        width: int = 64,
        *,
        depth: int = 3,
        fourier_scale: float = 1.0,
        condition: Embedder | None = None,
        condition_dropout: float = 0.0,
        key: Key,
    ):
        embedding_key, mapping_key, trunk_key, out_key = jr.split(key, 4)
        embedding = FourierEmbedding(width, scale=fourier_scale, key=embedding_key)
        told = {"condition": condition, "condition_dropout": condition_dropout}
        self.mapping = Mapping(embedding, width, width, **told, key=mapping_key)
        self.trunk = _Trunk(size + self.mapping.condition_size, width, depth, key=trunk_key)
        self.out = Linear(width, size, gain=SMALL, key=out_key)

    def __pdoc__(self, **settings: object) -> object:
        """Printed in one line; its parts print whole, `print(torso.trunk)`."""
        return in_short(self, f"size {self.out.bias.size}, {count(self):,} parameters")

    def __call__(self, x: Sample, c_noise: Level, *, condition: PyTree = None, key: Key | None = None) -> TorsoOutput:
        _check_size("x", x, self.out.bias.size)
        vector = self.mapping.vector(condition, key=key)
        embedding = self.mapping(c_noise, None, vector)
        entering = x if vector is None else jnp.concatenate([x, vector.astype(x.dtype)])
        features = self.trunk(entering, jax.nn.silu(embedding))
        return TorsoOutput(raw=self.out(features), features=features, embedding=embedding)


class HeadMLP(eqx.Module):
    """A head network for vectors; reads the readout of a torso whose width is `torso_width` (default: its own).

    Raises:
        ValueError: when called on a vector of another size, or on the readout of a torso of another width.
    """

    norm: LayerNorm
    mapping: Mapping
    merge: Linear
    trunk: _Trunk
    out: Linear

    def __init__(
        self,
        size: int,
        width: int = 64,
        *,
        depth: int = 2,
        torso_width: int | None = None,
        fourier_scale: float = 1.0,
        key: Key,
    ):
        torso_width = torso_width or width
        embedding_key, mapping_key, merge_key, trunk_key, out_key = jr.split(key, 5)
        embedding = FourierEmbedding(width, scale=fourier_scale, key=embedding_key)
        self.norm = LayerNorm(torso_width)
        self.mapping = Mapping(embedding, width, width, key=mapping_key)
        self.merge = Linear(width + torso_width, width, key=merge_key)
        self.trunk = _Trunk(2 * size + torso_width, width, depth, key=trunk_key)
        self.out = Linear(width, size, gain=SMALL, key=out_key)

    def __pdoc__(self, **settings: object) -> object:
        """Printed in one line; its parts print whole, `print(head.trunk)`."""
        return in_short(self, f"size {self.out.bias.size}, {count(self):,} parameters")

    def __call__(
        self,
        x: Sample,
        endpoint: Sample,
        features: Float[Array, " torso_width"],
        embedding: Float[Array, " torso_width"],
        c_noise: Level,
        *,
        key: Key | None = None,
    ) -> Float[Array, " size"]:
        _check_size("x", x, self.out.bias.size)
        _check_size("features", features, self.norm.scale.size, of="torso_width")
        own = jax.nn.silu(self.mapping(c_noise))
        with jax.default_matmul_precision("highest"):
            e = self.merge(jnp.concatenate([own, embedding]))
        return self.out(self.trunk(jnp.concatenate([x, endpoint, self.norm(features)]), e))
