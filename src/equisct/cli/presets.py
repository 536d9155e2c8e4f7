"""The presets of `equisct-train`: complete configurations, each with its cost and what to expect."""

import dataclasses

from .config import Config, Ema, Head, Log, Method, Noise, Optim, Run, Sample, Torso
from .data_config import CIFAR10, IDX, ArrayRecord, Digits, ImageFiles, Mixture, Npz

_SMALL_TORSO = Torso(width=16, multipliers=(1, 1), blocks=1, attention=(), dropout=0.0)
_SMALL_HEAD = Head(width=8, multipliers=(1, 1), blocks=1, attention=())

DIGITS = Config(
    preset="digits",
    data=Digits(),
    torso=_SMALL_TORSO,
    head=_SMALL_HEAD,
    method=Method(last=160, stratify=True),
    optim=Optim(lr=2e-3, decay=True),
    ema=Ema(0.999),
    run=Run(steps=3_500, batch=64, save_every=3_500),
)

TINY = Config(
    preset="tiny",
    data=Digits(),
    torso=Torso(width=4, multipliers=(1,), blocks=1, attention=(), dropout=0.1),
    head=Head(width=4, multipliers=(1,), blocks=1, attention=()),
    method=Method(last=40, stratify=True),
    optim=Optim(lr=1e-3),
    ema=Ema(0.9),
    run=Run(steps=12, batch=8, save_every=6),
    log=Log(every=2),
    sample=Sample(n=4, heun_steps=4),
)

TOY = Config(
    preset="toy",
    data=Mixture(),
    torso=Torso(width=64, blocks=3, dropout=0.0, fourier_scale=1.0),
    head=Head(width=64, blocks=2),
    # In few dimensions iCT's tiny constant settles on a wrong map, and squared L2 hardly weighs the high levels.
    method=Method(c=0.03, last=160, law_mean=0.0, stratify=True),
    noise=Noise(sigma_data=0.8),
    optim=Optim(lr=2e-3, decay=True),
    ema=Ema(0.999),
    run=Run(steps=10_000, batch=512, save_every=10_000),
    sample=Sample(n=1024),
)

_PAPER_RUN = Run(steps=400_000, batch=1024)
_PAPER_OPTIM, _PAPER_EMA = Optim(lr=1e-4), Ema(0.99993)

CIFAR = Config(preset="cifar10", data=CIFAR10(), optim=_PAPER_OPTIM, ema=_PAPER_EMA, run=_PAPER_RUN)

CIFAR_LITERAL = Config(
    preset="cifar10-literal",
    data=CIFAR10(),
    torso=Torso(tap_before_norm=True),
    head=Head(layer_norm=False, entry_conv=False, embedding="add", preconditioning="edm", endpoint_scaling="none"),
    method=Method(head_weighting="constant"),
    optim=_PAPER_OPTIM,
    ema=_PAPER_EMA,
    run=_PAPER_RUN,
)

FASHION = Config(
    preset="fashion-mnist",
    data=IDX(),
    torso=Torso(width=32, multipliers=(1, 2), blocks=2, attention=(), dropout=0.1),
    head=Head(width=32, multipliers=(1, 2), blocks=1, attention=()),
    method=Method(last=320, stratify=True),
    optim=Optim(lr=3e-4),
    ema=Ema(0.9995),
    run=Run(steps=50_000, batch=256),
)

IMAGES = dataclasses.replace(FASHION, preset="images", data=ImageFiles())
ARRAY_RECORD = dataclasses.replace(FASHION, preset="array-record", data=ArrayRecord())

NPZ = Config(
    preset="npz",
    data=Npz(),
    torso=_SMALL_TORSO,
    head=_SMALL_HEAD,
    method=Method(last=160, stratify=True),
    optim=Optim(lr=2e-3, decay=True),
    ema=Ema(0.999),
    run=Run(steps=3_000, batch=64, save_every=3_000),
)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": ("Real 8x8 digits, nothing to download: minutes on a laptop, readable one-step samples.", DIGITS),
    "toy": ("A 2-D mixture with a closed-form flow map; prints how far the model is from it. Minutes.", TOY),
    "tiny": ("A dozen updates of a toy network on the digits, to see that everything runs. Seconds.", TINY),
    "cifar10": ("The paper's run as its authors released it: 56M + 26M parameters, 410M images.", CIFAR),
    "cifar10-literal": (
        "The paper's run as its text alone reads: a 25M head, unweighted denoising loss.",
        CIFAR_LITERAL,
    ),
    "fashion-mnist": ("Fashion-MNIST from its IDX files, 28x28 grey: hours on a GPU.", FASHION),
    "images": ("Image files of your own, in a folder or zip; the network of fashion-mnist: hours on a GPU.", IMAGES),
    "array-record": ("The same from one file that `equisct-data pack` has written.", ARRAY_RECORD),
    "npz": ("Images or vectors of your own from an .npz file; the network of the digits.", NPZ),
}
