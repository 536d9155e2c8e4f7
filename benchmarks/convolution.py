"""Which way of computing a 3x3 convolution is fast on this machine, at top level and inside control flow?

Four convolutions in a row on 64 images of 8x8, forward and forward plus gradient; milliseconds per pass through them.
Inside `lax.scan` each pass feeds the next, as samplers (forward) and gradient accumulation (gradient) do.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array, lax

from equisct.nn import conv2d

BATCH, SIZE, DEPTH, PASSES = 64, 8, 4, 4

State = tuple[list[Array], Array]
"""The weights of the stack and its input."""


def primitive(x: Array, w: Array) -> Array:
    return jax.vmap(lambda x: conv2d(x, w, padding=1))(x)


def channels_last(x: Array, w: Array) -> Array:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def channels_first(x: Array, w: Array) -> Array:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME")


def patches(x: Array, w: Array) -> Array:
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.concatenate([padded[:, i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)], -1)
    return rows @ w.reshape(-1, w.shape[-1])


CONVOLUTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "equisct.nn.conv2d": primitive,
    "jax.lax, NHWC": channels_last,
    "jax.lax, NCHW": channels_first,
    "patches and dot": patches,
}


def make_state(channels: int, *, first: bool) -> State:
    """Random weights that keep the variance, and a random input; channel first or last."""
    *weight_keys, x_key = jr.split(jr.key(0), DEPTH + 1)
    weight_shape = (channels, channels, 3, 3) if first else (3, 3, channels, channels)
    x_shape = (BATCH, channels, SIZE, SIZE) if first else (BATCH, SIZE, SIZE, channels)
    return [jr.normal(key, weight_shape) / (9 * channels) ** 0.5 for key in weight_keys], jr.normal(x_key, x_shape)


def make_passes(conv: Callable[[Array, Array], Array]) -> dict[str, Callable[[State], State]]:
    """The four measured functions of a convolution, each from state to state and with its number of passes."""

    def stack(state: State) -> Array:
        weights, x = state
        for w in weights:
            x = conv(x, w)
        return x

    def forward(state: State) -> State:
        return state[0], stack(state)

    def gradient(state: State) -> State:
        slope = jax.grad(lambda state: jnp.mean(jnp.square(stack(state))))(state)
        return jax.tree.map(lambda value, slope: value - 0.01 * slope, state, slope)

    def scanned(one_pass: Callable[[State], State]) -> Callable[[State], State]:
        return lambda state: lax.scan(lambda state, _: (one_pass(state), None), state, length=PASSES)[0]

    passes = {
        "forward": forward,
        "gradient": gradient,
        "forward in scan": scanned(forward),
        "gradient in scan": scanned(gradient),
    }
    return {name: jax.jit(function) for name, function in passes.items()}


def milliseconds(function: Callable[[Any], Any], argument: Any, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(function(argument))
    return (time.perf_counter() - start) / calls * 1e3


def measure(channels: int, rounds: int) -> dict[tuple[str, str], float]:
    """The median over rounds, in which all functions take turns, for each convolution and pass."""
    jobs: dict[tuple[str, str], tuple[Callable[[State], State], State, int]] = {}
    for name, conv in CONVOLUTIONS.items():
        state = make_state(channels, first=conv is channels_first)
        for kind, function in make_passes(conv).items():
            jax.block_until_ready(function(state))
            jobs[name, kind] = function, state, max(1, int(50 / milliseconds(function, state, 1)))
    times: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for (name, kind), job in jobs.items():
            times[name, kind].append(milliseconds(*job) / (PASSES if "scan" in kind else 1))
    return {job: statistics.median(values) for job, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for channels in (32, 16):
        found = measure(channels, rounds)
        kinds = list(dict.fromkeys(kind for _, kind in found))
        print(f"\n{BATCH} images of {SIZE}x{SIZE}, {channels} channels, {DEPTH} convolutions, on {jax.devices()[0]}")
        print(f"milliseconds per pass, median of {rounds} rounds\n")
        print("| convolution | " + " | ".join(kinds) + " |")
        print("|---" * (len(kinds) + 1) + "|")
        for name in CONVOLUTIONS:
            print(f"| {name} | " + " | ".join(f"{found[name, kind]:.1f}" for kind in kinds) + " |")


if __name__ == "__main__":
    main()
