"""LPIPS against its authors' package, with the same random weights: distances of pairs of images, and gradients.

Needs `pip install torch lpips`; torchvision, which that package asks for its network, is not needed: the layers are
listed here. python benchmarks/lpips_parity.py
"""

import importlib
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from equisct.evaluation.lpips import BLOCKS, lpips_from

WIDTHS = (64, 128, 256, 512, 512)


torch: Any = importlib.import_module("torch")


def vgg16(**options: object) -> types.SimpleNamespace:
    """Torchvision's layers up to the last pooling, with random weights."""
    del options
    layers: list[Any] = []
    before = 3
    for count, width in zip(BLOCKS, WIDTHS, strict=True):
        for _ in range(count):
            layers += [torch.nn.Conv2d(before, width, 3, padding=1), torch.nn.ReLU(inplace=True)]
            before = width
        layers.append(torch.nn.MaxPool2d(2))
    return types.SimpleNamespace(features=torch.nn.Sequential(*layers))


def reference() -> Any:
    """The authors' module around those layers, with random weights >= 0 of the channels."""
    stub: Any = types.ModuleType("torchvision")
    stub.models = types.SimpleNamespace(vgg16=vgg16)
    sys.modules["torchvision"] = stub
    lpips: Any = importlib.import_module("lpips")  # after the stub
    torch.manual_seed(0)
    net = lpips.LPIPS(pretrained=False, net="vgg", pnet_rand=True, verbose=False).eval()
    for line in net.lins:
        line.model[1].weight.data.uniform_(0, 1)
    return net


def main() -> None:
    """Prints the largest relative differences."""
    net = reference()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    network = {f"features.{name.split('.', 2)[2]}": value for name, value in state.items() if name.startswith("net.")}
    ours = lpips_from(network, {name: value for name, value in state.items() if name.startswith("lin")})
    draw = np.random.default_rng(0)
    a, b = (draw.uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32) for _ in range(2))
    x = torch.tensor(a, requires_grad=True)
    large = [torch.nn.functional.interpolate(t, size=224, mode="bilinear") for t in (x, torch.tensor(b))]
    theirs = net(*large).reshape(-1)
    theirs.sum().backward()
    value = jax.jit(jax.vmap(ours))(jnp.asarray(a), jnp.asarray(b))
    gradient = jax.jit(jax.grad(lambda a: jax.vmap(ours)(a, jnp.asarray(b)).sum()))(jnp.asarray(a))
    wanted = theirs.detach().numpy()
    print("distances, theirs and ours:", wanted, np.asarray(value))
    print(f"largest relative difference: {np.max(np.abs(np.asarray(value) - wanted) / wanted):.1e}")
    assert x.grad is not None
    slope = x.grad.numpy()
    print(f"of the gradient, to its largest: {np.max(np.abs(np.asarray(gradient) - slope)) / np.abs(slope).max():.1e}")


if __name__ == "__main__":
    main()
