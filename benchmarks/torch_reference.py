"""The update of `equisct` in plain PyTorch, for `step_time.py`: the yardstick and nothing else.

Same architecture and sizes (NCSN++ torso with input pyramid and [1, 3, 3, 1] resampling, the release head), same
loss, RAdam, guard against non-finite gradients and weight average; written batch first and channel first, as one would
in PyTorch. Modules carry the names of equisct's fields, so that `check_same_function` can copy weights across by name.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equisct.cli.config import Config

EPSILON = 1e-6
SKIP_SCALE = math.sqrt(0.5)
SMALL = 1e-5


def conv(c_in: int, c_out: int, size: int = 3, *, gain: float = 1.0, padding: int | None = None) -> nn.Conv2d:
    layer = nn.Conv2d(c_in, c_out, size, padding=size // 2 if padding is None else padding)
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def linear(c_in: int, c_out: int) -> nn.Linear:
    layer = nn.Linear(c_in, c_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, min(32, channels // 4)), channels, eps=EPSILON)


class Resampler(nn.Module):
    """Halves or doubles an image, by the FIR filter [1, 3, 3, 1] or by averages and repeats."""

    def __init__(self, *, fir: bool):
        super().__init__()
        self.fir = fir
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def down(self, x: Tensor, padding: int = 1) -> Tensor:
        if not self.fir:
            return F.avg_pool2d(x, 2)
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, -1, -1, -1), stride=2, padding=padding, groups=channels)

    def up(self, x: Tensor) -> Tensor:
        if not self.fir:
            return F.interpolate(x, scale_factor=2)
        channels = x.shape[1]
        kernel = 4 * self.kernel.expand(channels, -1, -1, -1)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = conv(channels, 3 * channels, 1, gain=math.sqrt(0.2))
        self.project = conv(channels, channels, 1, gain=SMALL)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, -1)
        attended = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
        return (x + self.project(attended.reshape(x.shape))) * SKIP_SCALE


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, embedding: int, *, fir: bool, attention: bool = False, resample: str = ""):
        super().__init__()
        self.norm0, self.conv0 = group_norm(c_in), conv(c_in, c_out)
        self.affine = linear(embedding, c_out)
        self.norm1, self.conv1 = group_norm(c_out), conv(c_out, c_out, gain=SMALL)
        self.skip = conv(c_in, c_out, 1) if c_in != c_out or resample else nn.Identity()
        self.attention = Attention(c_out) if attention else nn.Identity()
        resampler = Resampler(fir=fir)
        self.resample = {"": nn.Identity(), "down": resampler.down, "up": resampler.up}[resample]
        self.resampler = resampler

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv0(self.resample(F.silu(self.norm0(x)))) + self.affine(e)[:, :, None, None]
        h = self.conv1(F.silu(self.norm1(h)))
        return self.attention((h + self.skip(self.resample(x))) * SKIP_SCALE)


class PyramidDown(nn.Module):
    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = conv(c_in, c_out, padding=2)
        self.resampler = Resampler(fir=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.resampler.down(self.conv(x), padding=0)


class Level(nn.Module):
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

        def block(c_in: int, c_out: int, *, attention: bool = False, resample: str = "") -> ResidualBlock:
            return ResidualBlock(c_in, c_out, embedding, fir=fir, attention=attention, resample=resample)

        self.stem = conv(c_in, width)
        channels, skips, encoder = width, [width], []
        for level, c in enumerate(widths):
            down = block(channels, channels, resample="down") if level else None
            pyramid = PyramidDown(c_in if level == 1 else widths[level - 2], channels) if level and fir else None
            skips += [channels] * bool(level) + [c] * blocks
            inputs = [channels] + [c] * (blocks - 1)
            encoder.append(Level(down, pyramid, [block(i, c, attention=attends[level]) for i in inputs]))
            channels = c
        self.encoder = nn.ModuleList(encoder)
        self.middle = nn.ModuleList([block(channels, channels, attention=True), block(channels, channels)])
        decoder = []
        for level, c in reversed(list(enumerate(widths))):
            up = block(channels, channels, resample="up") if level < len(widths) - 1 else None
            inputs = [channels + skips.pop()] + [c + skips.pop() for _ in range(blocks)]
            last = [False] * blocks + [attends[level]]
            decoder.append(Level(up, None, [block(i, c, attention=a) for i, a in zip(inputs, last, strict=True)]))
            channels = c
        self.decoder = nn.ModuleList(decoder)
        self.norm, self.out = group_norm(channels), conv(channels, c_out, gain=SMALL)

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
        self.first, self.second = linear(2 * len(frequencies), width), linear(width, width)

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
        self.embedding_norm, self.merge = nn.LayerNorm(embedding, eps=EPSILON), linear(own + embedding, own)
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


def pair_loss(pair: nn.Module, config: Config, x: Tensor, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Element-wise pseudo-Huber over the gap, plus head weight times EDM-weighted denoising, over a batch."""
    method, sd = config.method, config.noise.sigma_data
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
    noise, method = config.noise, config.method
    low, high = (level ** (1 / noise.rho) for level in (noise.sigma_min, noise.sigma_max))
    grid = torch.linspace(low, high, method.last + 1, dtype=torch.float64) ** noise.rho
    mass = torch.erf((grid.log() - method.law_mean) / (math.sqrt(2) * method.law_std)).diff()
    return grid.float(), (mass.cumsum(0) / mass.sum())[:-1].float()


class Update:
    """One update of the pair at the curriculum's last stage, with stratified levels: `update(batch)`."""

    def __init__(self, config: Config, shape: tuple[int, ...], *, channels_last: bool = False, compiled: bool = False):
        self.config = config
        self.pair = Pair(config, shape)
        self.pair.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
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
                torch._foreach_lerp_(self.average, self.parameters, 1 - self.config.optim.ema)
        return float(loss)
