"""Our DINOv2 against that of the transformers package, with the same random weights; the places against PyTorch.

pip install torch transformers; python benchmarks/dinov2_parity.py

Prints the largest difference of the class token relative to its largest number, and of the embedding of the places
where it is made smaller (37 to 16 to a side, with the authors' tenth of a place).
"""

import importlib
from typing import Any

import jax
import numpy as np

from equisct.evaluation.dinov2 import MEAN, OFFSET, SPREAD, dinov2_from, resized

WIDTH, DEPTH, SIDE = 256, 4, 224


def named(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by the names in the authors' file."""
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    found = {ours: state[theirs] for ours, theirs in names.items()}
    for i in range(DEPTH):
        ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
        for part in ("weight", "bias"):
            three = [state[f"{theirs}.attention.{name}_proj.{part}"] for name in "qkv"]
            found[f"{ours}.attn.qkv.{part}"] = np.concatenate(three)
            found[f"{ours}.attn.proj.{part}"] = state[f"{theirs}.attention.o_proj.{part}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                found[f"{ours}.{name}.{part}"] = state[f"{theirs}.{name}.{part}"]
        for k in (1, 2):
            found[f"{ours}.ls{k}.gamma"] = state[f"{theirs}.layer_scale{k}.lambda1"]
    return found


def main() -> None:
    """Runs both and prints."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=WIDTH // 64, image_size=SIDE, patch_size=14
    )
    net = transformers.Dinov2Model(config).eval()
    for value in net.parameters():
        value.data = value.data + 0.1 * torch.randn_like(value)
    ours = dinov2_from(named({name: value.detach().numpy() for name, value in net.state_dict().items()}))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32)
    colours = ((images + 1) / 2 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(SPREAD, (3, 1, 1))
    with torch.no_grad():
        wanted = net(torch.tensor(colours, dtype=torch.float32)).last_hidden_state[:, 0].numpy()
    found = np.asarray(jax.jit(jax.vmap(ours.features))(images))
    print(f"class token: {np.abs(found - wanted).max() / np.abs(wanted).max():.1e} of the largest number")
    grid = np.random.default_rng(1).normal(size=(37 * 37, 8)).astype(np.float32)
    square = torch.tensor(grid.reshape(1, 37, 37, 8)).permute(0, 3, 1, 2)
    scale = (16 + OFFSET) / 37
    smaller = torch.nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic")[0]
    print(f"places: {np.abs(resized(grid, 16) - smaller.permute(1, 2, 0).reshape(256, 8).numpy()).max():.1e}")


if __name__ == "__main__":
    main()
