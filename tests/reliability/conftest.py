"""The run without an interruption that the others are held against."""

import pathlib

import pytest

from reliability import harness


@pytest.fixture(scope="session")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What most rows train: an MLP on points; at full size the U-Net on the digits."""
    return harness.TINY if harness.full() else harness.vectors(tmp_path_factory.mktemp("data") / "points.npz", count=96)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory, arguments: tuple[str, ...]) -> pathlib.Path:
    """The folder of a finished run of `arguments`."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    ended = harness.train(folder, *arguments)
    assert ended.code == 0, ended.err
    return folder
