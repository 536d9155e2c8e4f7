"""Random weights of the 2015 Inception network, by the names and shapes of its checkpoint, the same everywhere."""

import hashlib

import numpy as np

WIDTHS = {  # block -> {convolution: (inputs, outputs, height, width)}
    "": {
        "Conv2d_1a_3x3": (3, 32, 3, 3), "Conv2d_2a_3x3": (32, 32, 3, 3), "Conv2d_2b_3x3": (32, 64, 3, 3),
        "Conv2d_3b_1x1": (64, 80, 1, 1), "Conv2d_4a_3x3": (80, 192, 3, 3),
    },
}  # fmt: skip


def _plain(n: int, pool: int) -> dict[str, tuple[int, int, int, int]]:
    return {
        "branch1x1": (n, 64, 1, 1), "branch5x5_1": (n, 48, 1, 1), "branch5x5_2": (48, 64, 5, 5),
        "branch3x3dbl_1": (n, 64, 1, 1), "branch3x3dbl_2": (64, 96, 3, 3), "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (n, pool, 1, 1),
    }  # fmt: skip


def _long(c: int) -> dict[str, tuple[int, int, int, int]]:
    return {
        "branch1x1": (768, 192, 1, 1), "branch7x7_1": (768, c, 1, 1), "branch7x7_2": (c, c, 1, 7),
        "branch7x7_3": (c, 192, 7, 1), "branch7x7dbl_1": (768, c, 1, 1), "branch7x7dbl_2": (c, c, 7, 1),
        "branch7x7dbl_3": (c, c, 1, 7), "branch7x7dbl_4": (c, c, 7, 1), "branch7x7dbl_5": (c, 192, 1, 7),
        "branch_pool": (768, 192, 1, 1),
    }  # fmt: skip


def _wide(n: int) -> dict[str, tuple[int, int, int, int]]:
    return {
        "branch1x1": (n, 320, 1, 1), "branch3x3_1": (n, 384, 1, 1), "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1), "branch3x3dbl_1": (n, 448, 1, 1), "branch3x3dbl_2": (448, 384, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3), "branch3x3dbl_3b": (384, 384, 3, 1), "branch_pool": (n, 192, 1, 1),
    }  # fmt: skip


WIDTHS |= {
    "Mixed_5b.": _plain(192, 32),
    "Mixed_5c.": _plain(256, 64),
    "Mixed_5d.": _plain(288, 64),
    "Mixed_6a.": {
        "branch3x3": (288, 384, 3, 3), "branch3x3dbl_1": (288, 64, 1, 1), "branch3x3dbl_2": (64, 96, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    },
    "Mixed_6b.": _long(128),
    "Mixed_6c.": _long(160),
    "Mixed_6d.": _long(160),
    "Mixed_6e.": _long(192),
    "Mixed_7a.": {
        "branch3x3_1": (768, 192, 1, 1), "branch3x3_2": (192, 320, 3, 3), "branch7x7x3_1": (768, 192, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7), "branch7x7x3_3": (192, 192, 7, 1), "branch7x7x3_4": (192, 192, 3, 3),
    },
    "Mixed_7b.": _wide(1280),
    "Mixed_7c.": _wide(2048),
}  # fmt: skip


def random_weights() -> dict[str, np.ndarray]:
    """Arrays by their names; signals neither die nor grow from layer to layer."""
    found: dict[str, np.ndarray] = {}

    def draw(name: str, shape: tuple[int, ...], low: float, high: float) -> None:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        found[name] = np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)

    for block, convolutions in WIDTHS.items():
        for name, (inputs, outputs, height, width) in convolutions.items():
            where, bound = f"{block}{name}", (6 / (inputs * height * width)) ** 0.5
            draw(f"{where}.conv.weight", (outputs, inputs, height, width), -bound, bound)
            draw(f"{where}.bn.weight", (outputs,), 0.8, 1.2)
            draw(f"{where}.bn.bias", (outputs,), -0.2, 0.2)
            draw(f"{where}.bn.running_mean", (outputs,), -0.2, 0.2)
            draw(f"{where}.bn.running_var", (outputs,), 0.6, 1.4)
    draw("fc.weight", (1008, 2048), -0.05, 0.05)
    draw("fc.bias", (1008,), -1.0, 1.0)
    return found


def images() -> np.ndarray:
    """Two 32 x 32 images, one smooth and one of noise, and their pixels: uint8 (2, 3, 32, 32)."""
    rows, columns = np.mgrid[0:32, 0:32]
    smooth = np.stack([8 * rows, 8 * columns, 4 * (rows + columns)]).astype(np.uint8)
    return np.stack([smooth, np.random.default_rng(5).integers(0, 256, (3, 32, 32)).astype(np.uint8)])
