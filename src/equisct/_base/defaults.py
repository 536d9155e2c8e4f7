"""Numbers that several places begin with, each from the paper that it stands in, and words. Free of JAX."""

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0
"""Ends and curvature of the grid of noise levels (Karras et al. 2022; Song et al. 2023)."""
SIGMA_DATA = 0.5
"""Standard deviation of images in [-1, 1] (Karras et al. 2022)."""

FIRST_INTERVALS, LAST_INTERVALS = 10, 1280
"""Ends of iCT's doubling curriculum (Song & Dhariwal 2024)."""
ICT_LAW_MEAN, ICT_LAW_STD = -1.1, 2.0
"""Of ln sigma in iCT's law of levels (Song & Dhariwal 2024)."""
EDM_LAW_MEAN, EDM_LAW_STD = -1.2, 1.2
"""Of ln sigma in EDM's (Karras et al. 2022)."""

CT_FIRST, CT_LAST, CT_DECAY = 2, 150, 0.9
"""Points at the start, intervals at the end and the teacher's first averaging rate of CT (Song et al. 2023)."""
KARRAS_POINTS = 18
"""Levels of EDM's sampler and grid points of CD (Karras et al. 2022; Song et al. 2023)."""
ECT_WIDENING, ECT_NARROWING = 8.0, 1.0
"""k and b of ECT's gap (Geng et al. 2024)."""
SCT_LAW_MEAN, SCT_LAW_STD = -1.0, 1.4
"""Of ln sigma in sCT's law of levels on CIFAR-10 (Lu & Song 2024)."""
SCT_WARMUP, SCT_TANGENT_C = 10_000, 0.1
"""Updates of sCT's tangent warm-up, and c of its tangent normalisation (Lu & Song 2024)."""

HEAD_WEIGHT = 0.3
"""lambda_SH (Lee et al. 2024, Appendix B)."""
EMA_DECAY = 0.9999
"""Share of the weights' average kept at each update."""
EMA_STD = 0.036
"""Width of an average that follows the length of the run, as a part of it: what 1 / (1 - 0.99993) updates, the paper's
average (Lee et al. 2024), are of its 400,000."""

AVERAGE, CURRENT = "ema", "model"
"""What the average that samples are drawn with, and the current weights, are called in every command and file."""
