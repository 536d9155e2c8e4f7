"""Odd files that people have: each is read where it is plain what it is, or told by name with what to do about it."""

import gzip
import io
import re
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from equisct.app.cli import data as command
from equisct.app.cli import evaluate
from equisct.app.parts import data as parts
from equisct.app.parts.data import detect, in_flags, load_data, open_data
from equisct.app.parts.features import open_samples
from equisct.app.settings.data import CIFAR10, IDX, ArrayRecord, ImageFiles, Npz, Pairs, Reading
from equisct.data import DataError, ImageFolder, ImageSet, Loader, load_idx, load_npz, load_pairs
from equisct.data._files import check_expansion
from test_data_folder import GOOD, PIXELS, encoded, write

GREY = PIXELS[..., 0]
HTML = b"<!DOCTYPE HTML><html>403 Forbidden</html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def saved(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def tar(mode):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        member = tarfile.TarInfo("jpg/0.png")
        member.size = len(GOOD)
        archive.addfile(member, io.BytesIO(GOOD))
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


# --- files that are no data, whoever reads them ---

FOREIGN = {
    "a pointer of Git LFS": (LFS, "git lfs pull"),
    "a web page": (HTML, "fetch the file again"),
    "a web page ": (gzip.compress(b"\n <?xml version='1.0'?><Error>AccessDenied</Error>"), "fetch the file again"),
    "one array as numpy.save writes it": (npy(PIXELS), "numpy.savez("),
    "a tar archive": (tar("w"), "tar -xf"),
    "a tar archive ": (tar("w:gz"), "tar -xf"),
    "a Python pickle": (b"\x80\x04\x95" + bytes(20), "numpy.savez"),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(20), "h5py"),
    "a Parquet file": (b"PAR1" + bytes(20), "pyarrow"),
    "a packed file": (b"7z\xbc\xaf\x27\x1c" + bytes(20), "unpack it"),
    "one picture": (GOOD, "the folder"),
    "a BMP picture": (encoded(PIXELS[0], "BMP"), "PNG"),
}
READERS = {
    "detect": lambda path: detect(path),
    "equisct-eval": lambda path: open_samples(path),
    "npz": lambda path: load_data(Npz(path), seed=0),
    "idx": lambda path: load_data(IDX(path), seed=0),
    "cifar10": lambda path: load_data(CIFAR10(path), seed=0),
    "images": lambda path: load_data(ImageFiles(path), seed=0),
    "array-record": lambda path: load_data(ArrayRecord(path), seed=0),
    "pairs": lambda path: load_data(Pairs(path), seed=0),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_every_reader_says_what_a_foreign_file_is(what, tmp_path):
    content, help_ = FOREIGN[what]
    (tmp_path / "file").write_bytes(content)
    for name, reader in READERS.items():
        if name == "cifar10" and "tar" in what:
            continue  # its own container
        with pytest.raises(DataError) as caught:
            reader(tmp_path / "file")
        assert f"found {what.strip()}" in str(caught.value), name
        assert help_ in caught.value.args[3], name


@pytest.mark.parametrize(("content", "message"), [(LFS, "git lfs pull"), (HTML, "web page"), (b"GIF89a", "GIF")])
def test_a_picture_that_is_none_says_so(content, message, tmp_path):
    with pytest.raises(DataError, match=f"not PNG, JPEG or WEBP: .*{message}"):
        ImageFolder(write(tmp_path, {"a.png": content}))


# --- arrays of others ---

LABELS = np.arange(4)
ARRAYS = {
    "samples of guided diffusion": ({"arr_0": PIXELS, "arr_1": LABELS}, None),
    "its reference batch": ({"arr_0": PIXELS, "mu": np.zeros(8), "sigma": np.eye(8), "sigma_s": np.eye(3)}, None),
    "MNIST of Keras": ({"x_train": GREY, "y_train": LABELS, "x_test": GREY}, "--array x_train or --array x_test"),
    "MedMNIST": (
        {"train_images": PIXELS, "train_labels": LABELS[:, None], "val_images": PIXELS},
        "--array train_images",
    ),
    "ImageNet-32": (
        {"data": np.zeros((4, 3072), np.uint8), "labels": LABELS, "mean": np.zeros(3072)},
        '["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) if',
    ),
    "rows alone": ({"images": np.full((4, 784), 7, np.uint8)}, "images.reshape(-1, 28, 28)"),
    "a mean and covariance": ({"mu": np.zeros(8), "sigma": np.eye(8)}, "the images that they were taken of"),
}


@pytest.mark.parametrize(("arrays", "hint"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_others_are_read_or_named(arrays, hint, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    if hint is None:
        found = open_data(tmp_path / "a.npz")
        assert isinstance(found, ImageSet)
        assert np.array_equal(found.images, PIXELS)
        return
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "a.npz")
    assert hint in caught.value.args[3]
    for name in re.findall(r"--array (\w+)", str(caught.value)):  # what is advised works, in every command
        assert isinstance(open_data(tmp_path / "a.npz", Reading(array=name)), ImageSet)
        assert isinstance(open_samples(tmp_path / "a.npz", Reading(array=name)), ImageSet)
        assert isinstance(load_npz(tmp_path / "a.npz", key=name), ImageSet)


def test_a_large_well_packed_file_says_what_helps():
    with pytest.raises(DataError, match="bomb; if you trust it, do so"):
        check_expansion("a", 100, 2**31, "do so")


def test_pairs_are_read_as_strictly_as_other_arrays(tmp_path):
    good = {"z": npy(np.zeros((2, 3), np.float32)), "samples": npy(np.zeros((2, 3), np.float32)), "teacher": npy("a")}
    objects = saved(lambda stream, a: np.save(stream, a, allow_pickle=True), a=np.array([None], object))
    bad = {"bytes after the array": good["z"] + b"x", "pickled Python objects": objects, "compression method 12": None}
    for message, content in ({"": good["z"]} | bad).items():
        with zipfile.ZipFile(tmp_path / "p.npz", "w", zipfile.ZIP_BZIP2 if content is None else 0) as archive:
            for name, usual in good.items():
                archive.writestr(f"{name}.npy", content if name == "z" and content else usual)
        if not message:
            assert load_pairs(tmp_path / "p.npz").size == 2
            continue
        with pytest.raises(DataError, match="more bytes" if "after" in message else message):
            load_pairs(tmp_path / "p.npz")


# --- MNIST under the names that people find it ---


def mnist(pattern):
    """Files of a training set, named by a pattern of kind and rank."""
    images = struct.pack(">4B3I", 0, 0, 8, 3, *GREY.shape) + GREY.tobytes()
    labels = struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes(range(4))
    return {pattern.format("images", 3): images, pattern.format("labels", 1): labels}


NAMES = {
    "official": "train-{}-idx{}-ubyte",
    "with a dot": "train-{}.idx{}-ubyte",
    "in folders of their names": "train-{0}-idx{1}-ubyte/train-{0}-idx{1}-ubyte",
    "torchvision's raw": "raw/train-{}-idx{}-ubyte",
    "torchvision's root": "FashionMNIST/raw/train-{}-idx{}-ubyte",
}


@pytest.mark.parametrize("pattern", NAMES.values(), ids=NAMES)
def test_mnist_is_found_under_other_names(pattern, tmp_path):
    write(tmp_path, mnist(pattern))
    assert detect(tmp_path) is IDX
    found = load_idx(tmp_path)
    assert np.array_equal(found.images[..., 0], GREY)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert "raw" not in found.name


def test_several_or_no_training_set_is_said(tmp_path):
    write(tmp_path / "two", mnist("MNIST/raw/train-{}-idx{}-ubyte") | mnist("KMNIST/raw/train-{}-idx{}-ubyte"))
    with pytest.raises(DataError, match="2 data sets: 'KMNIST/raw', 'MNIST/raw'"):
        load_idx(tmp_path / "two")
    write(tmp_path / "emnist", mnist("emnist-letters-train-{}-idx{}-ubyte"))
    with pytest.raises(DataError, match="can be read by itself: 'emnist-letters-train-images-idx3-ubyte'"):
        open_data(tmp_path / "emnist")


# --- archives and folders of others ---


def test_names_in_archives_of_windows_and_cameras(tmp_path):
    names = ["train\\0.png", "IMG 2023:01:02.png", "@eaDir\\1.png", "a\\..\\2.png"]
    for k in (3, 4):
        with zipfile.ZipFile(tmp_path / f"{k}.zip", "w") as archive:
            for name, image in zip(names[:k], PIXELS, strict=False):
                member = zipfile.ZipInfo("x")
                member.filename = name
                archive.writestr(member, encoded(image))
    found = ImageFolder(tmp_path / "3.zip")
    assert np.array_equal(found.take(np.arange(2)), ImageSet(PIXELS[[1, 0]], "").take(np.arange(2)))
    with pytest.raises(DataError, match="leaves the archive's folder"):
        ImageFolder(tmp_path / "4.zip")


def test_pictures_of_other_kinds_are_counted_aloud_and_jfif_is_jpeg(tmp_path, capsys):
    jpeg = encoded(PIXELS[0], "JPEG")
    others = {
        "a.bmp": b"BM",
        "b.TIF": b"II",
        "c.gif": b"GIF8",
        "d.gif": b"GIF8",
        "n.txt": b"text",
        "@eaDir/0.jpg/t.jpg": b"",
    }
    write(tmp_path / "set", {"0.jfif": jpeg, "1.jpg": jpeg, "2.png": b""} | others)
    found = load_data(ImageFiles(tmp_path / "set", bad="skip", bad_limit=0.5), seed=0)
    assert isinstance(found, ImageFolder)
    assert (found.size, len(found.bad), found.ignored[".gif"]) == (3, 1, 2)
    said = capsys.readouterr().err
    assert "note: pictures of other kinds are not read: 1 .bmp, 2 .gif, 1 .tif\n" in said
    assert "note: skipped 1 of 3 files that cannot be used; the first is '2.png'" in said
    with pytest.raises(DataError, match=r"no picture, but 1 \.bmp\n(.|\n)*convert them to PNG"):
        ImageFolder(write(tmp_path / "bmp", {"a.bmp": b"BM"}))


# --- the scale of images ---


class Floats:
    """Someone's own data set."""

    size, shape = 4, (3, 8, 8)

    def __init__(self, images):
        self.images = images

    def take(self, indices, flip=None):
        return self.images[indices]


def test_floats_of_0_to_255_are_refused(tmp_path):
    x = ImageSet(PIXELS, "").take(np.arange(4))
    wrong = PIXELS.transpose(0, 3, 1, 2).astype(np.float32)
    assert Loader(Floats(40 * x), 4, seed=0).batch(0).max() > 32  # of both signs: someone's own scale
    with pytest.raises(
        DataError, match=r"float32 array .* values 0 to 255\nexpected: images \(n, c, h, w\) in \[-1, 1\]"
    ):
        Loader(Floats(wrong), 4, seed=0).batch(0)
    np.savez(tmp_path / "a.npz", samples=wrong)
    with pytest.raises(DataError, match=r"\['samples'\].*values 0 to 255\n.*\nhint: x / 127.5 - 1"):
        open_samples(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", samples=PIXELS)
    assert np.array_equal(open_samples(tmp_path / "a.npz").take(np.arange(4)), x)
    np.savez(tmp_path / "a.npz", samples=5 * x)  # of a model that has learned nothing yet
    assert np.array_equal(open_samples(tmp_path / "a.npz").take(np.arange(4)), 5 * x)


# --- hints speak of what the reader of them can set ---

COMMANDS = {
    "check": (command.parse, ["check"]),
    "preview": (command.parse, ["preview"]),
    "pack": (command.parse, ["pack"]),
    "stats": (evaluate.parse, ["stats"]),
    "images": (evaluate.parse, ["images", "--ref", "r.npz"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_reads_data_takes_the_settings_that_hints_name(name):
    parse, words = COMMANDS[name]
    flags = ["--array", "a", "--size", "8", "--bad", "skip", "--bad-limit", "0.5", "--index", "i.json"]
    asked = parse(
        [*words, "photos", "--features", "pixels", *flags] if parse is evaluate.parse else [*words, "photos", *flags]
    )
    assert isinstance(asked, Reading)
    assert (asked.array, asked.size, asked.bad, asked.bad_limit) == ("a", 8, "skip", 0.5)
    with pytest.raises(ValueError, match="size: expected a finite number >= 1"):
        parse([*words, "photos", "--size", "0", *(["--features", "pixels"] if parse is evaluate.parse else [])])


def test_settings_that_the_data_do_not_have_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS)
    with pytest.raises(ValueError, match=r"size: expected none of it but with a folder or zip of image files, found 4"):
        open_data(tmp_path / "a.npz", Reading(size=4))
    write(tmp_path / "set", {"a.png": GOOD})
    with pytest.raises(ValueError, match=r"array: expected none of it but with an \.npz file, found x"):
        open_data(tmp_path / "set", Reading(array="x"))


def test_hints_are_flags_at_the_command_line_and_arguments_in_python(tmp_path):
    write(tmp_path, {"a.png": GOOD, "b.png": encoded(PIXELS[0, :4])})
    with pytest.raises(DataError, match=r'hint: .* skip them: bad="skip", bad_limit=0.5; one size for all: size=8'):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match=r"skip them: --bad skip, --bad-limit 0.5; one size for all: --size 8"):
        open_data(tmp_path)
    with pytest.raises(DataError, match=r"--data.bad skip, --data.bad-limit 0.5; one size for all: --data.size 8"):
        load_data(ImageFiles(tmp_path), seed=0)
    assert in_flags('for example load_idx("a-b")', "--data.") == "for example --data.path a-b"
    advised = in_flags(" ".join(f'{name}="1"' for name in parts.FLAGS), "--data.")
    flags = [word for word in advised.split() if word.startswith("--")]
    assert len(flags) == len(parts.FLAGS)
    known = {f"--data.{field}".replace("_", "-") for kind in (Npz, ImageFiles) for field in kind.__dataclass_fields__}
    assert set(flags) <= known
