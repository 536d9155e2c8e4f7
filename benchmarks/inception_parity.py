"""Our Inception network against torch-fidelity's with the same random weights.

pip install torch torchvision torch-fidelity; python benchmarks/inception_parity.py [--write]

Prints the largest difference of features and classes relative to the largest of them, and the Fréchet distance of two
sets of 64 images by both. `--write` stores what torch-fidelity says of two images for tests/test_inception.py.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile

import numpy as np

from equisct.evaluation import extract, frechet_distance, load_inception

ROOT = pathlib.Path(__file__).parent.parent


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, relative to the largest number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main() -> None:
    """Runs both and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store the reference's answers for the tests")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    drawn = importlib.import_module("inception_weights")
    torch = importlib.import_module("torch")
    theirs = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")

    weights = {name: torch.from_numpy(array) for name, array in drawn.random_weights().items()}
    weights |= {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(0) for name in weights if "running_var" in name
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "weights.pth"
        torch.save(weights, path)
        taken = ["2048", "logits_unbiased", "logits"]
        reference = theirs.FeatureExtractorInceptionV3("reference", taken, feature_extractor_weights_path=str(path))
        ours = load_inception(path)

    def both(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            answers = [answer.numpy() for answer in reference(torch.from_numpy(images))]
        if options.write and len(images) == 2:
            names = ("features", "logits_without_bias", "logits")
            np.savez_compressed(ROOT / "tests/fixtures/inception.npz", **dict(zip(names, answers, strict=True)))  # type: ignore[arg-type]
        found = extract(ours, images.astype(np.float32) / 127.5 - 1, batch=32)
        shifted = np.exp(answers[1] - answers[1].max(1, keepdims=True))
        print(f"{len(images)} images: features differ by {difference(found.features, answers[0]):.1e}", end=", ")
        assert found.probabilities is not None
        print(f"probabilities by {difference(found.probabilities, shifted / shifted.sum(1, keepdims=True)):.1e}")
        return found.features, answers[0]

    both(drawn.images())
    draw = np.random.default_rng(9)
    sets = [
        draw.integers(0, 256, (64, 3, 32, 32)).astype(np.uint8),
        np.clip(draw.normal(128, 40, (64, 3, 32, 32)), 0, 255).astype(np.uint8),
    ]
    (a, a_there), (b, b_there) = map(both, sets)
    print(
        f"Fréchet distance of the two sets: {frechet_distance(a, b):.4f}, and {frechet_distance(a_there, b_there):.4f}"
    )


if __name__ == "__main__":
    main()
