"""The Inception network against torch-fidelity's with the same random weights; checkpoints read, not executed."""

import collections
import hashlib
import io
import pathlib
import pickle
import re
import struct
import types
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from equisct.evaluation import inception, load_inception, measure
from equisct.evaluation.features import Extracted, check_shape
from equisct.evaluation.inception import Inception, inception_from, inception_names, resize
from equisct.evaluation.reference import Reference
from equisct.evaluation.torch_file import _Reader, read_torch_file
from inception_weights import images, random_weights
from strategies import untyped
from tolerances import FLOAT32_NETWORK

EXPECTED = pathlib.Path(__file__).parent / "fixtures" / "inception.npz"
"""What torch-fidelity 0.4.0 says of `images()` with `random_weights()`, by benchmarks/inception_parity.py."""


@pytest.fixture(scope="module")
def weights():
    return random_weights()


# --- the network ---


def test_features_and_classes_are_those_of_the_reference_implementation(weights):
    expected = np.load(EXPECTED)
    x = jnp.asarray(images().astype(np.float32) / 127.5 - 1)
    both = lambda net, x: (net.features(x), net.logits(x), net.logits_without_bias(x))
    run = eqx.filter_jit(lambda net, x: jax.vmap(lambda x: both(net, x))(x))
    for found, name in zip(run(inception_from(weights), x), ("features", "logits", "logits_without_bias"), strict=True):
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())


def test_the_file_names_the_network(weights, tmp_path, monkeypatch):
    """One step instead of a hundred layers: what is asked here is which of its outputs are taken."""
    monkeypatch.setattr(Inception, "features", lambda self, x: jnp.full(2048, x.mean()))
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    net, with_bias = load_inception(path), load_inception(path, bias=True)
    assert (net.weights, with_bias.weights) == (digest, digest)
    assert (net.name, with_bias.name) == ("inception-of-other-weights", "inception-of-other-weights-with-bias")
    difference = untyped(with_bias.logits)(jnp.ones((3, 4, 4))) - untyped(net.logits)(jnp.ones((3, 4, 4)))
    np.testing.assert_allclose(difference, weights["fc.bias"], atol=1e-4)
    monkeypatch.setattr(inception, "FILE_HASH", digest[:8])
    assert load_inception(path).name == "inception-2015"


def naive_resize(pixels, side):
    """Place by place, as TensorFlow's kernel says."""
    h, w, _ = pixels.shape
    out = np.zeros((side, side, pixels.shape[2]))
    for i in range(side):
        for j in range(side):
            y, x = i * h / side, j * w / side
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = pixels[y0, x0] * (1 - (x - x0)) + pixels[y0, x1] * (x - x0)
            bottom = pixels[y1, x0] * (1 - (x - x0)) + pixels[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return out


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (20, 9)])
def test_resize_is_that_of_tensorflow(size):
    pixels = np.random.default_rng(0).uniform(0, 255, (*size, 2)).astype(np.float32)
    found = resize(jnp.asarray(pixels), 11)
    np.testing.assert_allclose(found, naive_resize(pixels, 11), rtol=FLOAT32_NETWORK, atol=1e-3)


def test_names_are_those_of_the_checkpoint(weights):
    assert {f"{name}.conv.weight" for name in inception_names()} == {
        name for name in weights if name.endswith("conv.weight")
    }
    assert len(inception_names()) == 94


def test_only_the_public_network_gives_fid():
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    metrics = ["frechet", "frechet-infinity", "kernel", "precision-recall"]
    for network, names in {
        "inception-2015": ["fid", "fid_at_infinity", "kid", "kid_error"],
        "inception-of-other-weights": [
            "frechet_distance", "frechet_distance_at_infinity", "kernel_distance", "kernel_distance_error",
        ],
    }.items():  # fmt: skip
        found = measure(Extracted(rows, None), Reference("d", network, "", rows), metrics)
        assert list(found) == [*names, "precision", "recall"]


def test_wrong_weights_are_named_with_their_hash(weights, tmp_path):
    def refused(arrays, message):
        path = tmp_path / "bad.safetensors"
        save_file(arrays, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(ValueError, match=message) as error:
            load_inception(path)
        assert str(error.value).endswith(f"; the SHA-256 of {path} is {digest}")

    refused({"a": np.zeros(2, np.float32)}, "weights: expected Conv2d_1a_3x3.bn.weight of 1 dimensions, found none")
    flat = {**weights, "fc.bias": np.zeros((2, 2), np.float32)}
    refused(flat, r"weights: expected fc.bias of 1 dimensions, found \(2, 2\)")
    narrow = {**weights, "Mixed_5b.branch1x1.conv.weight": np.zeros((64, 100, 1, 1), np.float32)}
    refused(narrow, "weights: expected those of the 2015 Inception network")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(ValueError, match="weights: expected a safetensors file"):
        load_inception(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="weights: expected the file of the Inception network, found nothing at"):
        load_inception(tmp_path / "away.pth")


def test_other_images_than_rgb_are_refused(weights, tmp_path):
    save_file(weights, tmp_path / "weights.safetensors")
    net = load_inception(tmp_path / "weights.safetensors")
    check_shape(net, (3, 32, 32))
    for shape in ((1, 8, 8), (2,)):
        with pytest.raises(
            ValueError, match=f"features: expected a network of samples {re.escape(str(shape))}, found inc"
        ):
            check_shape(net, shape)


# --- checkpoints of PyTorch ---


class FloatStorage:
    """Stands for PyTorch's class of this name."""


class LongStorage:
    """The same."""


FloatStorage.__module__ = LongStorage.__module__ = "torch"


def _rebuild_tensor_v2(*arguments):
    return arguments


_rebuild_tensor_v2.__module__ = "torch._utils"


class Storage:
    """Numbers under a key."""

    def __init__(self, key, array):
        self.key, self.array = key, array
        self.kind = FloatStorage if array.dtype == np.float32 else LongStorage


class View:
    """A tensor: a view of a storage."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Writer(pickle.Pickler):
    """Writes what PyTorch writes."""

    def __init__(self, stream, view):
        pickle.Pickler.__init__(self, stream, 2)
        self.tail = view

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", obj.kind, obj.key, "cpu", obj.array.size, *self.tail)
        return None


@pytest.fixture
def torch(monkeypatch):
    """Modules by which pickles find these stand-ins."""
    root, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    untyped(root).FloatStorage, untyped(root).LongStorage = FloatStorage, LongStorage
    untyped(utils)._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(__import__("sys").modules, "torch", root)
    monkeypatch.setitem(__import__("sys").modules, "torch._utils", utils)


def new_file(path, content, storages):
    stream = io.BytesIO()
    Writer(stream, ()).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name/data.pkl", stream.getvalue())
        archive.writestr("name/version", "3\n")
        for storage in storages:
            archive.writestr(f"name/data/{storage.key}", storage.array.tobytes())


def old_file(path, content, storages):
    with path.open("wb") as stream:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, stream, 2)
        Writer(stream, (None,)).dump(content)
        pickle.dump([storage.key for storage in storages], stream, 2)
        for storage in storages:
            stream.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("write", [new_file, old_file])
def test_checkpoints_of_both_ages_hold_the_same_arrays(write, tmp_path):
    numbers = Storage("0", np.arange(12, dtype=np.float32))
    count = Storage("7", np.array([41], np.int64))
    content = collections.OrderedDict(
        whole=View(numbers, 0, (3, 4), (4, 1)),
        turned=View(numbers, 0, (4, 3), (1, 4)),
        part=View(numbers, 6, (2, 2), (4, 1)),
        count=View(count, 0, (), ()),
        empty=View(numbers, 0, (0, 3), (3, 1)),
    )
    write(tmp_path / "file.pth", content, [numbers, count])
    found = read_torch_file(tmp_path / "file.pth")
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name, expected in {
        "whole": whole, "turned": whole.T, "part": whole.ravel()[6:].reshape(-1)[[0, 1, 4, 5]].reshape(2, 2),
        "count": np.int64(41), "empty": np.zeros((0, 3)),
    }.items():  # fmt: skip
        np.testing.assert_array_equal(found[name], expected)


class Hostile:
    """Runs something when it is unpickled."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("ran"),)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("write", [new_file, old_file])
def test_nothing_in_a_checkpoint_is_executed(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "file.pth", {"a": Hostile()}, [])
    with pytest.raises(ValueError, match=r"weights: expected a PyTorch checkpoint .* which no file of weights needs"):
        read_torch_file(tmp_path / "file.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("write", [new_file, old_file])
@pytest.mark.parametrize(
    "view",
    [
        (0, (3, 4), (5, 1)), (1, (12,), (1,)), (-1, (2,), (1,)), (4, (2,), (-1,)), (0, (2**40,), (1,)),
        (0, (2**40,), (0,)),
    ],
)  # fmt: skip
def test_a_tensor_beyond_its_storage_is_refused(write, view, tmp_path):
    numbers = Storage("0", np.arange(12, dtype=np.float32))
    write(tmp_path / "file.pth", {"a": View(numbers, *view)}, [numbers])
    with pytest.raises(ValueError, match="weights: expected a PyTorch checkpoint .* beyond its storage of 12"):
        read_torch_file(tmp_path / "file.pth")


def program(path, instructions):
    """A checkpoint whose tensors are described by these instructions."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name/data.pkl", b"\x80\x02" + instructions + b".")


REBUILD, WORD = b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"
HOSTILE = {
    "builtins.eval, which no file of weights needs": b"cbuiltins\neval\n",
    "os.system, which no file of weights needs": b"cos\nsystem\n",
    "posix.system, which no file of weights needs": b"X\x05\x00\x00\x00posixX\x06\x00\x00\x00system\x93",
    "nt.system, which no file of weights needs": b"(int\nsystem\n",
    "torch._utils.os, which no file of weights needs": b"ctorch._utils\nos\n",
    "the instruction EXT1": b"\x82\x01",
    "in a bytearray8, but only 2 remain": b"\x96" + (2**40).to_bytes(8, "little") + b"x",
    "place 4294967295 in a memory": b"Nr\xff\xff\xff\xff",
    "place 4294967294 in a memory": b"Np4294967294\n",
    "'str' object is not callable": WORD + b")R",
    "'str' object has no attribute '__dict__'": WORD + b"}b",
    "a storage of the kind 'module'": b"(X\x06\x00\x00\x00module" + WORD + b"NNK\x00tQ",
    "a storage of the kind 'storage'": b"(X\x07\x00\x00\x00storageX\x01\x00\x00\x00ONNK\x00tQ",
}
"""Instructions that no checkpoint of tensors has, by what is said of them; each memory would take 64 GiB."""


@pytest.mark.parametrize("message", HOSTILE)
def test_instructions_that_tensors_do_not_need_are_refused(message, tmp_path):
    program(tmp_path / "file.pth", HOSTILE[message])
    with pytest.raises(ValueError, match=f"weights: expected a PyTorch checkpoint .*{re.escape(message)}"):
        read_torch_file(tmp_path / "file.pth")


def test_what_a_file_sets_on_a_function_ends_with_it(tmp_path):
    """By the state of an object, which may name its attributes."""
    defaults = b"X\x0c\x00\x00\x00__defaults__K\x01\x85"
    program(tmp_path / "file.pth", b"}X\x01\x00\x00\x00a" + REBUILD + b"N}" + defaults + b"s\x86bs")
    with pytest.raises(ValueError, match="'a': a function"):
        read_torch_file(tmp_path / "file.pth")
    assert _Reader(io.BytesIO()).find_class("torch._utils", "_rebuild_tensor_v2").__defaults__ is None


@given(st.binary(max_size=60))
def test_any_other_file_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("files") / "file.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights: expected a PyTorch checkpoint of named tensors, found"):
        read_torch_file(path)


def test_the_network_is_made_of_arrays_alone(weights):
    """So that it is an argument of the compiled program, not 95 MB of constants in it."""
    net = inception_from(weights)
    held = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(net.features, eqx.is_array)))
    assert held > 21e6
