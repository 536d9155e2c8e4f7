"""The presets of `equisct-train`: complete configurations, each with its cost and what to expect."""

import dataclasses
import pathlib

from .methods import CD, CT, DDPM, ECT, EDM, ICT, KD, PD, SCT, ScoreGuidance
from .settings.config import Config, Ema, Head, Log, Noise, Optim, Run, Sample, Torso
from .settings.data import CIFAR10, IDX, ArrayRecord, Digits, ImageFiles, Mixture, Npz, Pairs
from .settings.features import Eval

DIGITS = Config(
    preset="digits",
    data=Digits(),
    torso=Torso(width=16, multipliers=(1, 1), blocks=1, attention=(), dropout=0.0),
    head=Head(width=8, multipliers=(1, 1), blocks=1, attention=()),
    method=ScoreGuidance(last=160, stratify=True),
    optim=Optim(lr=2e-3, decay=True),
    ema=Ema(decay=None),
    run=Run(steps=3_500, batch=64, save_every=3_500, report=True),
    sample=Sample(every=700),
    eval=Eval(every=500),
)

# Exact flow steps leave no error of the grid's: a coarse one has few levels to learn (docs/science.md).
DIGITS_POSTERIOR = dataclasses.replace(
    DIGITS,
    preset="digits-posterior",
    method=ICT(velocity="posterior", heun_steps=4, last=10, law_mean=0.0, stratify=True),
    run=Run(steps=8_000, batch=64, save_every=8_000, report=True),
    sample=Sample(every=2_000),
    eval=Eval(every=1_000),
)

DIGITS_CLASSES = dataclasses.replace(
    DIGITS_POSTERIOR,
    preset="digits-classes",
    data=Digits(condition="classes"),
    torso=dataclasses.replace(DIGITS.torso, condition=10, guidance=3.0),
    sample=Sample(n=80, every=2_000),
    eval=Eval(every=1_000, metrics=("frechet", "agreement")),
)

TINY = Config(
    preset="tiny",
    data=Digits(),
    torso=Torso(width=4, multipliers=(1,), blocks=1, attention=(), dropout=0.1),
    head=Head(width=4, multipliers=(1,), blocks=1, attention=()),
    method=ScoreGuidance(last=40, stratify=True),
    optim=Optim(lr=1e-3),
    ema=Ema(decay=None),
    run=Run(steps=12, batch=8, save_every=6),
    log=Log(every=2),
    sample=Sample(n=4, heun_steps=4),
)

TOY = Config(
    preset="toy",
    data=Mixture(),
    torso=Torso(width=64, blocks=3, dropout=0.0, fourier_scale=1.0),
    head=Head(width=64, blocks=2),
    # In few dimensions a pseudo-Huber's map is less true, and differs more between seeds: benchmarks/distances.py.
    method=ScoreGuidance("squared-l2", None, last=160, law_mean=0.0, stratify=True),
    noise=Noise(sigma_data=0.8),
    optim=Optim(lr=2e-3, decay=True),
    ema=Ema(decay=None),
    run=Run(steps=10_000, batch=512, save_every=10_000),
    sample=Sample(n=1024),
    eval=Eval(features="pixels", metrics=("wasserstein",)),
)

# The learned weight undoes the tangent's normalisation, and derivatives of fast features are rough: docs/methods.md.
TOY_SCT = dataclasses.replace(
    TOY,
    preset="toy-sct",
    torso=dataclasses.replace(TOY.torso, fourier_scale=0.2),
    method=SCT(law_mean=0.0, stratify=True, learned_weight=False),
)

CIFAR = Config(
    preset="cifar10",
    data=CIFAR10(),
    method=ScoreGuidance(),
    optim=Optim(lr=1e-4),
    ema=Ema(0.99993),
    run=Run(steps=400_000, batch=1024),
)

CIFAR_LITERAL = dataclasses.replace(
    CIFAR,
    preset="cifar10-literal",
    torso=Torso(tap_before_norm=True),
    head=Head(layer_norm=False, entry_conv=False, embedding="add", preconditioning="edm", endpoint_scaling="none"),
    method=ScoreGuidance(head_weighting="constant"),
)

# The other rows of the paper's Table 1, with their authors' hyper-parameters (docs/methods.md says where ours differ).

_DDPM_NET = Torso(architecture="ddpm", multipliers=(1, 2, 2, 2), blocks=2, dropout=0.1)
_CM_NET = Torso(fourier_scale=16.0, dropout=0.0)
_EDM_TEACHER = pathlib.Path("runs/cifar10-edm-ncsnpp")

CIFAR_DDPM = Config(
    preset="cifar10-ddpm",
    data=CIFAR10(),
    torso=_DDPM_NET,
    method=DDPM(),
    optim=Optim(name="adam", lr=2e-4, warmup=5_000, clip=1.0),
    run=Run(steps=800_000, batch=128),
)

CIFAR_EDM = Config(
    preset="cifar10-edm",
    data=CIFAR10(flip=False),  # the augmentation flips, and tells
    torso=Torso(architecture="ddpmpp", dropout=0.13),
    method=EDM(augment=0.12),
    optim=Optim(name="adam", lr=1e-3, warmup=19_531),  # 10M images
    ema=Ema(0.99929, ramp=0.05),  # a half-life of 0.5M images
    run=Run(steps=390_625, batch=512),  # 200M images
)

CIFAR_EDM_NCSNPP = dataclasses.replace(
    CIFAR_EDM, preset="cifar10-edm-ncsnpp", torso=dataclasses.replace(_CM_NET, dropout=0.13)
)

CIFAR_KD = Config(
    preset="cifar10-kd",
    data=Pairs(),
    torso=dataclasses.replace(_DDPM_NET, dropout=0.0),
    method=KD(pathlib.Path("runs/cifar10-ddpm"), preconditioning="vp"),
    optim=Optim(name="adam", lr=2e-4, b2=0.98, warmup=5_000),
    ema=Ema(0.995),
    run=Run(steps=50_000, batch=512),  # 25 epochs of 1.024M pairs
)

CIFAR_PD = Config(
    preset="cifar10-pd",
    data=CIFAR10(),
    torso=_CM_NET,
    method=PD(_EDM_TEACHER, first=4096),
    optim=Optim(name="adam", lr=5e-5, clip=1.0, decay=True),
    ema=Ema(0.0),
    run=Run(steps=750_000, batch=512),  # 11 stages of 50,000 and two of 100,000
)

CIFAR_CD = Config(
    preset="cifar10-cd",
    data=CIFAR10(),
    torso=_CM_NET,
    method=CD(distance="lpips", teacher=_EDM_TEACHER),
    optim=Optim(lr=4e-4),
    run=Run(steps=800_000, batch=512),
    sample=Sample(mid_sigma=0.585348),
)

CIFAR_CT = dataclasses.replace(CIFAR_CD, preset="cifar10-ct", method=CT(distance="lpips"), sample=Sample())

CIFAR_ICT_STAR = dataclasses.replace(CIFAR, preset="cifar10-ict-star", method=ICT())

CIFAR_ICT = dataclasses.replace(
    CIFAR, preset="cifar10-ict", method=ICT(distance="pseudo-huber-norm"), sample=Sample(mid_sigma=0.820867)
)

CIFAR_ECT = Config(
    preset="cifar10-ect",
    data=CIFAR10(flip=False),
    torso=Torso(architecture="ddpmpp", dropout=0.2),
    method=ECT(teacher=pathlib.Path("runs/cifar10-edm")),
    optim=Optim(lr=1e-4),
    run=Run(steps=400_000, batch=128),
    sample=Sample(mid_sigma=0.821),
)

FASHION = Config(
    preset="fashion-mnist",
    data=IDX(),
    torso=Torso(width=32, multipliers=(1, 2), blocks=2, attention=(), dropout=0.1),
    head=Head(width=32, multipliers=(1, 2), blocks=1, attention=()),
    method=ScoreGuidance(last=320, stratify=True),
    optim=Optim(lr=3e-4),
    ema=Ema(decay=None),
    run=Run(steps=50_000, batch=256),
)

IMAGES = dataclasses.replace(FASHION, preset="images", data=ImageFiles())
ARRAY_RECORD = dataclasses.replace(FASHION, preset="array-record", data=ArrayRecord())

NPZ = dataclasses.replace(
    DIGITS,
    preset="npz",
    data=Npz(),
    run=Run(steps=3_000, batch=64, save_every=3_000),
    sample=Sample(),
    eval=Eval(),
)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": ("Real 8x8 digits, nothing to download: minutes on a laptop, readable one-step samples.", DIGITS),
    "toy": ("A 2-D mixture with a closed-form flow map; prints how far the model is from it. Minutes.", TOY),
    "tiny": ("A dozen updates of a toy network on the digits, to see that all runs: a minute, mostly compiling.", TINY),
    "toy-sct": ("The mixture of toy by continuous-time consistency training, sCT. Minutes.", TOY_SCT),
    "digits-posterior": (
        "The digits by the exact mean of the velocity's noise: the best one-step samples here. Minutes.",
        DIGITS_POSTERIOR,
    ),
    "digits-classes": (
        "The digits by their class, guided: equisct-sample RUN --condition 7 --guidance 2. Minutes.",
        DIGITS_CLASSES,
    ),
    "cifar10": ("The paper's run as its authors released it: 56M + 26M parameters, 410M images.", CIFAR),
    "cifar10-literal": (
        "The paper's run as its text alone reads: a 25M head, unweighted denoising loss.",
        CIFAR_LITERAL,
    ),
    "cifar10-ddpm": ("DDPM, 36M; equisct-sample draws by DDIM too.", CIFAR_DDPM),
    "cifar10-edm": ("EDM on DDPM++, 56M, with its augmentation.", CIFAR_EDM),
    "cifar10-edm-ncsnpp": ("EDM on NCSN++, 56M: the teacher of cifar10-cd and cifar10-pd.", CIFAR_EDM_NCSNPP),
    "cifar10-kd": ("Knowledge distillation of cifar10-ddpm, from pairs of equisct-sample --pairs.", CIFAR_KD),
    "cifar10-pd": ("Progressive distillation of cifar10-edm-ncsnpp, 4096 steps to one.", CIFAR_PD),
    "cifar10-cd": ("Consistency distillation of cifar10-edm-ncsnpp, by LPIPS (bring its weights).", CIFAR_CD),
    "cifar10-ct": ("Consistency training as first published, by LPIPS (bring its weights).", CIFAR_CT),
    "cifar10-ect": ("Easy consistency tuning of cifar10-edm.", CIFAR_ECT),
    "cifar10-ict": ("Improved consistency training.", CIFAR_ICT),
    "cifar10-ict-star": (
        "The same with the paper's element-wise distance, its iCT*: cifar10 without the head.",
        CIFAR_ICT_STAR,
    ),
    "fashion-mnist": ("Fashion-MNIST from its IDX files, 28x28 grey: hours on a GPU.", FASHION),
    "images": ("Image files of your own, in a folder or zip; the network of fashion-mnist: hours on a GPU.", IMAGES),
    "array-record": ("The same from one file that `equisct-data pack` has written.", ARRAY_RECORD),
    "npz": ("Images or vectors of your own from an .npz file; the network of the digits.", NPZ),
}
