"""Checkpoints: every bit comes back, damage is seen, the last good one is loaded, old ones go in the right order."""

import contextlib
import json
import pathlib
import shutil
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from PIL import Image

from catalogue import mlp_pair
from equisct import data, evaluation, train
from equisct._base.files import partial_name
from equisct.app.runs.stored import weights_hash
from equisct.data.array_records import ArrayRecordSet, write_array_record
from equisct.data.images import float_to_images
from equisct.data.pairs import load_pairs, save_pairs
from equisct.evaluation.reference import Reference, load_reference, save_reference
from equisct.train import (
    CheckpointError,
    CheckpointStore,
    ConstantDecay,
    data_mesh,
    load_weights,
    read_checkpoint,
    save_snapshot,
    save_weights,
)
from equisct.train import manifest as manifest_file
from equisct.train.manifest import DamagedError, read_manifest, write_manifest
from equisct.train.placement import place
from equisct.train.posthoc import list_snapshots
from equisct.train.reading import find_checkpoint, load_tree
from strategies import untyped


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def equal(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(arrays(a), arrays(b), strict=True))


@pytest.fixture
def saved(tmp_path):
    """A folder with the checkpoints of steps 1 and 2, of different weights."""
    store = CheckpointStore(tmp_path / "c")
    for step in (1, 2):
        store.save(step, mlp_pair(step), {"step": step, "exact": 0.1 + 0.2})
    store.close()
    return tmp_path / "c"


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_notes_are_those_of_the_moment_of_saving(tmp_path, monkeypatch):
    """What they say is written in the background, while the run goes on and changes it."""
    store, notes, changed = CheckpointStore(tmp_path), {"window": [1]}, threading.Event()
    finish = store._finish
    monkeypatch.setattr(store, "_finish", lambda *words: changed.wait(10) and finish(*words))
    store.save(1, mlp_pair(1), notes)
    notes["window"].append(2)
    changed.set()
    store.wait()
    assert find_checkpoint(tmp_path, 1).notes == {"window": [1]}


def test_every_bit_and_the_notes_come_back(saved):
    step, model, notes = untyped(CheckpointStore(saved).restore(mlp_pair(9)))
    assert (step, notes) == (2, {"step": 2, "exact": 0.1 + 0.2})
    assert equal(model, mlp_pair(2))


def test_shapes_suffice_to_load_and_a_reader_changes_nothing(saved):
    before = files(saved)
    like = eqx.filter_eval_shape(mlp_pair)
    assert equal(read_checkpoint(saved, like), mlp_pair(2))
    assert equal(read_checkpoint(saved, like, 1), mlp_pair(1))
    assert find_checkpoint(saved, 1).notes["step"] == 1
    assert files(saved) == before


def test_every_file_is_hashed_once_per_load(saved, monkeypatch):
    hashed: list[pathlib.Path] = []
    describe = manifest_file._describe
    monkeypatch.setattr(manifest_file, "_describe", lambda path: (hashed.append(path), describe(path))[1])
    store = CheckpointStore(saved)
    for load in (lambda: store.restore(mlp_pair()), lambda: read_checkpoint(saved, mlp_pair())):
        hashed.clear()
        load()
        assert sorted(hashed) == [path for path in files(saved / "2") if path.name != manifest_file.NAME]


def test_parts_of_a_checkpoint_are_read_alone(tmp_path):
    draw = np.random.default_rng(0)
    tree = {name: {"w": draw.normal(size=(300, 300)).astype(np.float32)} for name in ("model", "ema", "moments")}
    store = CheckpointStore(tmp_path)
    store.save(1, tree, {})
    store.close()
    like = {name: {"w": jax.ShapeDtypeStruct((300, 300), np.float32)} for name in ("model", "ema")}
    found, before = find_checkpoint(tmp_path), bytes_read()
    part = load_tree(found, like, partial=True)
    read = bytes_read() - before
    assert equal(part, {name: tree[name] for name in like})
    assert read < 2.2 * tree["ema"]["w"].nbytes
    with pytest.raises(CheckpointError, match="expected 2 arrays, found also moments/w"):
        load_tree(found, like)
    for wrong, message in {
        ("mean", "w", 300): r"expected an array mean/w \(300,\), found none",
        ("model", "w", 2): r"array model/w: expected float32 \(2,\), found float32 \(300, 300\)",
        ("model", "b", 2): r"expected an array model/b \(2,\), found none",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            load_tree(found, {wrong[0]: {wrong[1]: jnp.ones(wrong[2])}}, partial=True)


def bytes_read():
    """By the library below Orbax, from files, since the process began."""
    (found,) = tensorstore.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
    return found["values"][0]["value"]


def test_what_is_saved_is_what_was_there_when_save_was_called(tmp_path):
    store = CheckpointStore(tmp_path)
    tree = {"x": jnp.arange(100_000.0)}
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    store.save(1, tree, {})
    overwrite(tree["x"]).block_until_ready()
    store.wait()
    _, back, _ = untyped(CheckpointStore(tmp_path).restore({"x": jnp.zeros(100_000)}))
    np.testing.assert_array_equal(back["x"], np.arange(100_000.0))


def test_what_is_handed_to_the_writer_shares_no_memory_with_the_state(tmp_path, monkeypatch):
    """Else the next update, which is donated the state, could overwrite what is being written."""
    store = CheckpointStore(tmp_path)
    tree, handed = {"x": jnp.arange(1000.0), "spread": place(jnp.arange(1000.0), data_mesh(2))}, {}
    save = untyped(store)._checkpointer.save
    monkeypatch.setattr(
        untyped(store)._checkpointer, "save", lambda place, arrays: (handed.update(arrays), save(place, arrays))
    )
    store.save(1, tree, {})
    store.close()
    assert len(handed) == 2
    for name, leaf in tree.items():
        (written,) = [array for path, array in handed.items() if name in path]
        assert not any(np.shares_memory(np.asarray(shard.data), written) for shard in leaf.addressable_shards)


DRAWN = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
LAYOUTS = {
    "transposed": lambda array: array.transpose(0, 2, 1, 3),
    "columns first": np.asfortranarray,
    "every second": lambda array: array[:, :, ::2],
    "backwards": lambda array: array[:, ::-1],
    "repeated": lambda array: np.broadcast_to(array[0], array.shape),
}


def through_store(lay, path):
    array, store = lay(DRAWN), CheckpointStore(path)
    store.save(1, {"w": array}, {})
    store.close()
    yield read_checkpoint(path, {"w": np.zeros_like(array)})["w"], array


def through_weights(lay, path):
    array = lay(DRAWN)
    save_weights(path, model={"w": array}, ema={"w": array})
    yield load_weights(path, {"w": array})["w"], array


def through_snapshot(lay, path):
    array = lay(DRAWN)
    found = save_snapshot(path, [{"w": array}], [ConstantDecay(0.5)], 2)
    yield load_weights(found, {"w": array}, group="0")["w"], array


def through_reference(lay, path):
    rows = lay(DRAWN)[:, 0, :, 0]
    made = Reference("data", "network", "", rows)
    save_reference(path.with_suffix(".npz"), made)
    found = load_reference(path.with_suffix(".npz"))
    yield found.features, rows
    yield found.hash, Reference("", "", "", np.array(rows, order="C")).hash


def through_pairs(lay, path):
    save_pairs(path.with_suffix(".npz"), lay(DRAWN), lay(DRAWN + 1), "teacher")
    found = load_pairs(path.with_suffix(".npz"))
    yield found.z, lay(DRAWN)
    yield found.samples, lay(DRAWN + 1)


def through_record(lay, path):
    write_array_record(path, [lay(PIXELS)], count=len(PIXELS))
    yield float_to_images(ArrayRecordSet(path).take(np.arange(len(PIXELS)))), lay(PIXELS)


def through_hash(lay, path):
    del path
    yield weights_hash({"w": lay(DRAWN)}), weights_hash({"w": np.array(lay(DRAWN), order="C")})


WRITERS = (through_store, through_weights, through_snapshot, through_reference, through_pairs, through_record,
           through_hash)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("through", WRITERS, ids=lambda through: through.__name__.removeprefix("through_"))
def test_what_is_written_are_the_numbers_and_not_the_memory(through, layout, tmp_path):
    """An array of another library may lie in memory in any order."""
    assert not LAYOUTS[layout](DRAWN).flags.c_contiguous
    for found, expected in through(LAYOUTS[layout], tmp_path / "file"):
        np.testing.assert_array_equal(found, expected)


def test_a_checkpoint_of_another_version_is_refused_and_left_where_it_is(tmp_path):
    """Not taken for a damaged one, and no older one is used in its place without a word."""
    store, tree = CheckpointStore(tmp_path), {"x": jnp.ones(3)}
    store.save(1, tree, {})
    store.save(2, tree, {})
    store.close()
    path = tmp_path / "2" / "MANIFEST.json"
    content = json.loads(path.read_text()) | {"format": 2}
    content.pop("digest")
    path.write_text(json.dumps(content | {"digest": manifest_file._digest(content)}))
    before = files_below(tmp_path)
    message = "expected format 1, found 2: another version's checkpoint; take the version that wrote it"
    with pytest.raises(CheckpointError, match=message):
        CheckpointStore(tmp_path).restore(tree)
    with pytest.raises(CheckpointError, match=message):
        find_checkpoint(tmp_path)
    assert files_below(tmp_path) == before


def files_below(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_arrays_are_laid_out_as_the_loader_asks(tmp_path):
    tree = {"w": jnp.arange(4096.0).reshape(64, 64), "n": jnp.int32(3)}
    store = CheckpointStore(tmp_path)
    store.save(5, place(tree, data_mesh(2, fsdp=2)), {})
    store.close()
    _, alone, _ = untyped(CheckpointStore(tmp_path).restore(tree))
    _, divided, _ = untyped(CheckpointStore(tmp_path).restore(place(tree, data_mesh(2, fsdp=2))))
    assert equal(alone, tree)
    assert equal(divided, tree)
    assert len(alone["w"].sharding.device_set) == 1
    assert divided["w"].sharding.shard_shape((64, 64)) == (32, 64)


DAMAGE = {
    "flipped bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_of_any_file_is_seen_and_the_one_before_is_loaded(name, saved, tmp_path):
    for i, path in enumerate(files(saved / "2")):
        if path.stat().st_size == 0:
            continue
        copy = tmp_path / str(i)
        shutil.copytree(saved, copy)
        DAMAGE[name](copy / path.relative_to(saved))
        told: list[str] = []
        step, model, _ = untyped(CheckpointStore(copy, warn=told.append).restore(mlp_pair()))
        assert step == 1, path
        assert equal(model, mlp_pair(1))
        assert len(told) == 1
        assert path.name in told[0] or "manifest" in told[0]
        assert (copy / "2.damaged").is_dir()


def test_no_whole_checkpoint_is_none_for_a_trainer_and_an_error_for_a_reader(saved):
    for step in "12":
        (saved / step / "MANIFEST.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"expected a whole one in .*, found .*MANIFEST"):
        read_checkpoint(saved, mlp_pair())
    told: list[str] = []
    assert CheckpointStore(saved, warn=told.append).restore(mlp_pair()) is None
    assert len(told) == 2
    with pytest.raises(CheckpointError, match=r"expected one of the steps \[\] in .*, found 7"):
        read_checkpoint(saved, mlp_pair(), 7)


def test_another_model_is_named(saved):
    wider = eqx.tree_at(lambda m: m.cm.torso.out.bias, mlp_pair(), jnp.zeros(3))
    expected = r"array cm/torso/out/bias: expected float32 \(3,\), found float32 \(2,\)"
    with pytest.raises(CheckpointError, match=expected):
        CheckpointStore(saved).restore(wider)
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf, mlp_pair())
    with pytest.raises(CheckpointError, match="expected bfloat16 .* found float32"):
        CheckpointStore(saved).restore(halved)


def test_newest_and_multiples_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2, keep_every=4)
    for step in range(1, 8):
        store.save(step, {"x": jnp.zeros(1)}, {})
    store.wait()
    assert store.steps() == [4, 6, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "6", "7"]


def test_nothing_is_deleted_unless_the_new_one_counts(saved, monkeypatch):
    def fail(folder, notes):
        raise OSError(28, "No space left on device")

    store = CheckpointStore(saved)
    monkeypatch.setattr("equisct.train.checkpoint.write_manifest", fail)
    store.save(3, mlp_pair(3), {})
    with pytest.raises(
        CheckpointError, match=r"expected to write [\d,]+ bytes or more, found [\d,]+ free .*No space left"
    ):
        store.wait()
    assert store.steps() == [1, 2]
    monkeypatch.undo()
    store.save(3, mlp_pair(3), {})
    store.wait()
    assert store.steps() == [2, 3]
    assert equal(read_checkpoint(saved, mlp_pair()), mlp_pair(3))


def test_what_a_killed_process_left_is_swept(saved):
    for name in ("3.orbax-checkpoint-tmp", "2.deleting"):
        (saved / name).mkdir()
    shutil.copytree(saved / "2", saved / "4")
    (saved / "4" / "MANIFEST.json").unlink()
    shutil.copytree(saved / "2", saved / "5")
    (saved / "5" / "MANIFEST.json").rename(partial_name(saved / "5" / "MANIFEST.json"))
    told: list[str] = []
    store = CheckpointStore(saved, warn=told.append)
    assert store.steps() == [1, 2]
    assert sorted(path.name for path in saved.iterdir()) == ["1", "2", "4.damaged"]
    assert len(told) == 1
    assert "checkpoint 4 has no MANIFEST.json" in told[0]


def test_manifest_knows_its_own_content(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    write_manifest(tmp_path, {"x": [1, None]})
    assert read_manifest(tmp_path) == {"x": [1, None]}
    path = tmp_path / manifest_file.NAME
    content = json.loads(path.read_text())
    for change in ({"notes": {"x": 2}}, {"files": {}}, {"digest": "0"}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(DamagedError, match="expected digest"):
            read_manifest(tmp_path)


BAD = {
    "keep": (lambda folder: CheckpointStore(folder, keep=1), "keep: expected a finite number >= 2, found 1"),
    "keep_every": (lambda folder: CheckpointStore(folder, keep_every=-1), "keep_every: .* >= 0, found -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_call_is_named(name, tmp_path):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(tmp_path)


def test_what_would_be_lost_or_cannot_be_noted_is_refused(tmp_path):
    store = CheckpointStore(tmp_path)
    tree = {"a": jnp.ones(3)}
    for step in (10, 20, 20):
        store.save(step, tree, {})
    with pytest.raises(ValueError, match=r"step: expected one after those in .*, \[10, 20\], found 5"):
        store.save(5, tree, {})
    with pytest.raises(ValueError, match="notes: expected what JSON can hold, found Object of type ndarray"):
        store.save(30, tree, {"a": np.zeros(2)})
    assert store.steps() == [10, 20]
    store.close()


def test_home_is_meant_by_a_tilde_wherever_the_library_takes_a_path(tmp_path, monkeypatch):
    """What writes and what reads, of each kind of file; nothing is made in a folder of that name."""
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    tree = {"w": jnp.ones(2)}
    with contextlib.closing(CheckpointStore("~/store")) as store:
        store.save(1, tree, {})
    assert equal(read_checkpoint("~/store", tree), tree)
    train.save_weights("~/w.safetensors", model=tree, ema=tree)
    assert equal(train.load_weights("~/w.safetensors", tree), tree)
    train.save_snapshot("~/averages", [tree], [train.PowerFunction(6.94)], 3)
    assert [each.step for each in list_snapshots("~/averages")] == [3]
    points, images = np.zeros((4, 2), np.float32), np.full((4, 4, 4, 1), 9, np.uint8)
    data.save_pairs("~/pairs.npz", points, points, "a")
    data.write_array_record("~/a.array_record", [images], count=4)
    Image.fromarray(images[0, ..., 0]).save(home / "photos" / "a.png")
    evaluation.save_reference("~/r.npz", evaluation.Reference("d", "pixels", "", points))
    assert data.load_pairs("~/pairs.npz").size == data.load_npz("~/pairs.npz", "z").size == 4
    assert data.ArrayRecordSet("~/a.array_record").size == 4
    assert data.ImageFolder("~/photos", index=None).size == 1
    assert evaluation.load_reference("~/r.npz").network == "pixels"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
