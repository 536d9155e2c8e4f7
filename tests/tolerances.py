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
