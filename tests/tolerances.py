"""Every tolerance of the suite, with its reason. None is raised to make a test pass."""

import decimal

FLOAT32_ROUNDING = 1e-6
"""A handful of float32 operations (each 6e-8 relative)."""

FLOAT32_NETWORK = 1e-5
"""A deep float32 network against its float64 run, relative to the output's scale."""

FLOAT64_ROUNDING = 1e-12
"""A handful of float64 operations, relative."""

PRINTED_DIGITS = 5e-9
"""Half a unit of the last digit of a table printed to 8 decimals."""


def half_unit(printed: str) -> float:
    """Half a unit of the last digit of a printed number: what rounding to those digits may change."""
    return 0.5 * 10.0 ** int(decimal.Decimal(printed).as_tuple().exponent)


FLOAT32_CANCELLING = 1e-4
"""A score at a small level in float32: x_t near 1 is known to 6e-8, the noise in it (0.002) to 3e-5 relative."""

SOLVER_FLOAT64 = 1e-6
"""`solve_pf_ode` at its float64 defaults, relative to the data's scale; measured: 1e-9 typical, 1.4e-8 worst of 500."""

SOLVER_FLOAT32 = 1e-4
"""The same in float32; measured: 2e-7 typical, 7.5e-5 the worst of 500 (a point between modes, where errors grow)."""

ONE_GREY_LEVEL = 1 / 255
"""What rounding to 8 bits, once, may change; of a mean too."""

TWO_GREY_LEVELS = 2 / 255
"""Two roundings: there and back between colour spaces at a JPEG's best quality."""

RECONSTRUCTED_AVERAGE = 1e-2
"""An average from snapshots against the same kept directly, relative to its distance from the last weights; measured on
4,000 updates, 40 snapshots: 2e-5 to 3e-4 for lengths near the stored ones, 2.5e-3 for one as short as the spacing of
the snapshots, where coefficients of sum 20 in size magnify float32's rounding of the stored averages."""

LONG_RUN = 1e-3
"""A profile of 10,000 updates against its continuous limit: the sum of a smooth function against its integral."""

BINNING = 1e-6
"""Coefficients of a fit with updates taken two by two: a profile of width L in bins of width h is off by
about `(h / L)^2 / 24`, which is 2e-7 here."""

OTHER_DEVICES = 1e-5
"""Relative: a loss of an update computed on other devices, whose sums are taken in another order (float32)."""
BFLOAT16_NETWORK = 2e-2
"""A loss from a network computed in bfloat16 (8 bits: 4e-3 per operation, averaged over elements)."""
