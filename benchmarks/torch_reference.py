"""The update of `equisct` in plain PyTorch, for `step_time.py`: the yardstick and nothing else.

Same architecture and sizes (NCSN++ torso with input pyramid and [1, 3, 3, 1] resampling, the release head), same
loss, RAdam, guard against non-finite gradients and weight average; batch first and channel first, as is usual there.
Modules carry the names of equisct's fields, so that `check_same_function` can copy weights across by name.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

from equisct._base.defaults import EMA_DECAY
from equisct.app.methods import ScoreGuidance
from equisct.app.settings.config import Config

EPSILON = 1e-6
SKIP_SCALE = math.sqrt(0.5)
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
FIR = torch.outer(TAPS, TAPS)[None, None]

Resample: TypeAlias = Callable[[Tensor], Tensor]


def conv(c_in: int, c_out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, padding=size // 2)


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, min(32, channels // 4)), channels, eps=EPSILON)


def fir_down(x: Tensor, padding: int = 1) -> Tensor:
    return F.conv2d(x, FIR.expand(x.shape[1], -1, -1, -1), stride=2, padding=padding, groups=x.shape[1])


def fir_up(x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, 4 * FIR.expand(x.shape[1], -1, -1, -1), stride=2, padding=1, groups=x.shape[1])


def box_down(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def box_up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2)


def same(x: Tensor) -> Tensor:
    return x


class Attention(nn.Module):
    """Single-head self-attention over all pixels, with a scaled residual."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = conv(channels, 3 * channels, 1)
        self.project = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, -1)
        attended = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
        return (x + self.project(attended.reshape(x.shape))) * SKIP_SCALE


class ResidualBlock(nn.Module):
    """Norm, SiLU, resampling, convolution, twice; skip; attention."""

    def __init__(self, c_in: int, c_out: int, embedding: int, *, attention: bool = False, resample: Resample = same):
        super().__init__()
        self.norm0, self.conv0 = group_norm(c_in), conv(c_in, c_out)
        self.affine = nn.Linear(embedding, c_out)
        self.norm1, self.conv1 = group_norm(c_out), conv(c_out, c_out)
        self.skip = conv(c_in, c_out, 1) if c_in != c_out or resample is not same else nn.Identity()
        self.attention = Attention(c_out) if attention else nn.Identity()
        self.resample = resample

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv0(self.resample(F.silu(self.norm0(x)))) + self.affine(e)[:, :, None, None]
        h = self.conv1(F.silu(self.norm1(h)))
        return self.attention((h + self.skip(self.resample(x))) * SKIP_SCALE)


class PyramidDown(nn.Module):
    """A convolution and down-sampling that share one zero padding."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return fir_down(self.conv(x), padding=0)


class Level(nn.Module):
    """One resolution of encoder or decoder."""

    def __init__(self, resample: nn.Module | None, pyramid: nn.Module | None, blocks: list[ResidualBlock]):
        super().__init__()
        self.resample, self.pyramid, self.blocks = resample, pyramid, nn.ModuleList(blocks)


class UNetBody(nn.Module):
    """Encoder, bottleneck, decoder; `fir` also brings the input pyramid (NCSN++), without it is DDPM++."""

    def __init__(
        self, c_in: int, c_out: int, *, resolution: int, width: int, multipliers: tuple[int, ...], blocks: int,
        attention: tuple[int, ...], embedding: int, fir: bool,
    ):  # fmt: skip
        super().__init__()
        widths = [width * m for m in multipliers]
        attends = [resolution // 2**level in attention for level in range(len(widths))]

        down, up = (fir_down, fir_up) if fir else (box_down, box_up)

        def block(c_in: int, c_out: int, **options: Any) -> ResidualBlock:
            return ResidualBlock(c_in, c_out, embedding, **options)

        self.stem = conv(c_in, width)
        channels, skips, encoder = width, [width], []
        for level, c in enumerate(widths):
            shrink = block(channels, channels, resample=down) if level else None
            pyramid = PyramidDown(c_in if level == 1 else widths[level - 2], channels) if level and fir else None
            skips += [channels] * bool(level) + [c] * blocks
            inputs = [channels] + [c] * (blocks - 1)
            encoder.append(Level(shrink, pyramid, [block(i, c, attention=attends[level]) for i in inputs]))
            channels = c
        self.encoder = nn.ModuleList(encoder)
        self.middle = nn.ModuleList([block(channels, channels, attention=True), block(channels, channels)])
        decoder = []
        for level, c in reversed(list(enumerate(widths))):
            grow = block(channels, channels, resample=up) if level < len(widths) - 1 else None
            inputs = [channels + skips.pop()] + [c + skips.pop() for _ in range(blocks)]
            last = [False] * blocks + [attends[level]]
            decoder.append(Level(grow, None, [block(i, c, attention=a) for i, a in zip(inputs, last, strict=True)]))
            channels = c
        self.decoder = nn.ModuleList(decoder)
        self.norm, self.out = group_norm(channels), conv(channels, c_out)

    def forward(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        h, pyramid = self.stem(x), x
        skips = [h]
        for level in self.encoder:
            if level.resample is not None:
                h = level.resample(h, e)
                if level.pyramid is not None:
                    h = pyramid = (level.pyramid(pyramid) + h) * SKIP_SCALE
                skips.append(h)
            for block in level.blocks:
                h = block(h, e)
                skips.append(h)
        for block in self.middle:
            h = block(h, e)
        for level in self.decoder:
            h = h if level.resample is None else level.resample(h, e)
            for block in level.blocks:
                h = block(torch.cat([h, skips.pop()], 1), e)
        features = F.silu(self.norm(h))
        return self.out(features), features


class Mapping(nn.Module):
    """The noise embedding before its last SiLU, from fixed frequencies."""

    def __init__(self, frequencies: Tensor, width: int):
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.first, self.second = nn.Linear(2 * len(frequencies), width), nn.Linear(width, width)

    def forward(self, c_noise: Tensor) -> Tensor:
        phase = c_noise[:, None] * self.frequencies
        return self.second(F.silu(self.first(torch.cat([phase.sin(), phase.cos()], 1))))


class Torso(nn.Module):
    """NCSN++: `(x, c_noise) -> raw, features, embedding`."""

    def __init__(self, config: Config, channels: int, resolution: int):
        super().__init__()
        t = config.torso
        self.mapping = Mapping(2 * math.pi * t.fourier_scale * torch.randn(t.width), 4 * t.width)
        self.body = UNetBody(
            channels, channels, resolution=resolution, width=t.width, multipliers=t.multipliers, blocks=t.blocks,
            attention=t.attention, embedding=4 * t.width, fir=True,
        )  # fmt: skip

    def forward(self, x: Tensor, c_noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedding = self.mapping(c_noise)
        raw, features = self.body(x, F.silu(embedding))
        return raw, features, embedding


class Head(nn.Module):
    """The release head: `(x, endpoint, features, embedding, c_noise) -> raw`."""

    def __init__(self, config: Config, channels: int, resolution: int):
        super().__init__()
        h, torso = config.head, config.torso
        seen, embedding, own = torso.width * torso.multipliers[0], 4 * torso.width, 4 * h.width
        m = h.width // 2
        self.layer_norm, self.group_norm = nn.LayerNorm(seen, eps=EPSILON), group_norm(seen)
        self.entry_conv = conv(2 * channels + seen, seen)
        self.mapping = Mapping(10_000 ** (-torch.arange(m) / (m - 1)), own)
        self.embedding_norm, self.merge = nn.LayerNorm(embedding, eps=EPSILON), nn.Linear(own + embedding, own)
        self.body = UNetBody(
            seen, channels, resolution=resolution, width=h.width, multipliers=h.multipliers, blocks=h.blocks,
            attention=h.attention, embedding=own, fir=False,
        )  # fmt: skip

    def forward(self, x: Tensor, endpoint: Tensor, features: Tensor, embedding: Tensor, c_noise: Tensor) -> Tensor:
        e = self.merge(torch.cat([F.silu(self.mapping(c_noise)), self.embedding_norm(embedding)], 1))
        features = self.layer_norm(features.movedim(1, -1)).movedim(-1, 1)
        u = torch.cat([x, endpoint, self.group_norm(features)], 1)
        return self.body(self.entry_conv(F.silu(u)), e)[0]


class Pair(nn.Module):
    """The preconditioned consistency model and score head."""

    def __init__(self, config: Config, shape: tuple[int, ...]):
        super().__init__()
        channels, resolution, _ = shape
        self.noise = config.noise
        self.torso, self.head = Torso(config, channels, resolution), Head(config, channels, resolution)

    def forward(self, x_t: Tensor, sigma: Tensor, *, denoise: bool) -> tuple[Tensor, Tensor | None]:
        sd = self.noise.sigma_data
        s = sigma[:, None, None, None]
        norm, above = (s**2 + sd**2).sqrt(), s - self.noise.sigma_min
        skip, out, c_noise = 1 / (1 + (above / sd) ** 2), sd * above / norm, sigma.log() / 4
        raw, features, embedding = self.torso(x_t / norm, c_noise)
        endpoint = skip * x_t + out * raw
        if not denoise:
            return endpoint, None
        raw = self.head(x_t / norm, endpoint.detach() / norm, features, embedding, c_noise)
        return endpoint, skip * x_t + out * raw


def score_guided(config: Config) -> ScoreGuidance:
    """The settings of the one method that this reference has."""
    assert isinstance(config.method, ScoreGuidance)
    return config.method


def pair_loss(pair: nn.Module, config: Config, x: Tensor, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Element-wise pseudo-Huber over the gap, plus head weight times EDM-weighted denoising, over a batch."""
    method, sd = score_guided(config), config.noise.sigma_data
    c = 0.003 if method.c is None else method.c
    x_t, x_r = x + t[:, None, None, None] * z, x + r[:, None, None, None] * z
    student, denoised = pair(x_t, t, denoise=True)
    with torch.no_grad():
        teacher, _ = pair(x_r, r, denoise=False)
    huber = ((student - teacher).square() + c**2).sqrt().mean((1, 2, 3)) - c
    weight = (t**2 + sd**2) / (t * sd) ** 2
    denoising = weight * (denoised - x).square().mean((1, 2, 3))
    return (huber / (t - r)).mean() + method.head_weight * denoising.mean()


def level_table(config: Config) -> tuple[Tensor, Tensor]:
    """Grid of the curriculum's last stage, and the inner edges of its intervals' cumulative law."""
    noise, method = config.noise, score_guided(config)
    low, high = (level ** (1 / noise.rho) for level in (noise.sigma_min, noise.sigma_max))
    grid = torch.linspace(low, high, method.last + 1, dtype=torch.float64) ** noise.rho
    mass = torch.erf((grid.log() - method.law_mean) / (math.sqrt(2) * method.law_std)).diff()
    return grid.float(), (mass.cumsum(0) / mass.sum())[:-1].float()


class Update:
    """One update of the pair at the curriculum's last stage, with stratified levels: `update(batch)`."""

    def __init__(self, config: Config, shape: tuple[int, ...], *, channels_last: bool = False, compiled: bool = False):
        self.config = config
        self.pair = Pair(config, shape)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.pair.to(memory_format=self.layout)
        self.loss = torch.compile(pair_loss) if compiled else pair_loss
        self.grid, self.cumulative = level_table(config)
        self.parameters = list(self.pair.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        optim = config.optim
        self.optimiser = torch.optim.RAdam(self.parameters, optim.lr, betas=(optim.b1, optim.b2), foreach=True)

    def __call__(self, batch: Tensor) -> float:
        x = batch.contiguous(memory_format=self.layout)
        u = (torch.arange(len(x)) + torch.rand(len(x))) / len(x)
        interval = torch.searchsorted(self.cumulative, u, right=True)
        t, r = self.grid[interval + 1], self.grid[interval]
        loss = self.loss(self.pair, self.config, x, torch.randn_like(x), t, r)
        self.optimiser.zero_grad()
        loss.backward()
        gradients = [p.grad for p in self.parameters]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if torch.isfinite(norm):
            self.optimiser.step()
            with torch.no_grad():
                share = 1 - (self.config.ema.decay or EMA_DECAY)  # of whatever length, it is the same work
                torch._foreach_lerp_(self.average, self.parameters, share)
        return loss.item()


def equisct_array(model: Any, name: str) -> np.ndarray:
    """The array of an equisct pair (or of its gradient) that is called `name` here, in PyTorch's layout."""
    first, *path, last = name.split(".")
    node = model.cm.torso if first == "torso" else model.head.network
    for part in path:
        node = node[int(part)] if part.isdigit() else getattr(node, part)
    renamed = {"weight": "scale", "bias": "shift"} if "norm" in (path or [""])[-1] else {}
    array = np.asarray(getattr(node, renamed.get(last, last)))
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def check_same_function(config: Config, shape: tuple[int, ...], tolerance: float = 1e-4) -> str:
    """Compares endpoints, denoised samples, loss and gradient with equisct's, at the same random weights and draws.

    Raises:
        RuntimeError: if any differs by more than `tolerance` of its largest element.
    """
    import equinox as eqx  # here: no process that is timed may import JAX
    import jax

    import equisct as sct

    generator, key = np.random.default_rng(0), jax.random.key(0)
    batch = jax.numpy.asarray(generator.uniform(-1, 1, (8, *shape)), np.float32)
    system = config.method.build(config, shape)
    objective: Any = system.objective(None, None)

    @eqx.filter_jit
    def ours(model: Any) -> tuple[Any, Any, dict[str, Any]]:
        draws = objective.base.draw(batch, 0, key=key)
        x_t = jax.vmap(sct.perturb)(draws.x, draws.z, draws.pair.t)
        loss, gradient = eqx.filter_value_and_grad(lambda model: objective(model, batch, 0, key=key)[0])(model)
        endpoint, denoised = (jax.vmap(f)(x_t, draws.pair.t) for f in (model.endpoint, model.denoise))
        return draws, gradient, {"endpoint": endpoint, "denoised": denoised, "loss": loss}

    def shake(leaf: Any) -> Any:
        return leaf + generator.normal(0, 0.1, leaf.shape).astype(np.float32) if eqx.is_array(leaf) else leaf

    model = jax.tree.map(shake, system.model(key))
    draws, gradient, expected = ours(model)
    pair = Pair(config, shape)
    with torch.no_grad():
        for name, tensor in pair.named_parameters():
            tensor.copy_(torch.tensor(equisct_array(model, name)).reshape(tensor.shape))
        frequencies = torch.tensor(np.asarray(model.cm.torso.mapping.embedding.frequencies.value))
        pair.torso.mapping.frequencies.copy_(2 * math.pi * frequencies)
    x, z, t, r = (torch.tensor(np.asarray(a)) for a in (draws.x, draws.z, draws.pair.t, draws.pair.r))
    endpoint, denoised = pair(x + t[:, None, None, None] * z, t, denoise=True)
    found = {"endpoint": endpoint, "denoised": denoised, "loss": pair_loss(pair, config, x, z, t, r)}
    found["loss"].backward()
    for name, parameter in pair.named_parameters():
        found[name], expected[name] = parameter.grad, equisct_array(gradient, name)
    differences = {}
    for name, tensor in found.items():
        ours_, theirs = np.asarray(expected[name]), tensor.detach().numpy()
        differences[name] = np.abs(ours_.ravel() - theirs.ravel()).max() / np.abs(ours_).max()
    worst = max(differences, key=lambda name: differences[name])
    report = f"{len(differences)} arrays, largest relative difference {differences[worst]:.1e} ({worst})"
    if differences[worst] > tolerance:
        raise RuntimeError(report)
    return report
