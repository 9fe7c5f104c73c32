"""Where a checkpoint cannot be kept, or is none, a sentence says so before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nlme
from nlme.search.checkpoint import Checkpoint, folder_of


@pytest.mark.parametrize(
    ("place", "sentence"),
    [("", "is a folder; name a file"), ("none/a.npz", "does not exist"), ("file/a.npz", "does not exist")],
)
def test_a_place_for_no_file(tmp_path, place, sentence):
    (tmp_path / "file").write_text("x")
    with pytest.raises(nlme.FitError, match=sentence):
        Checkpoint(tmp_path / place, "told", 0.0)


def test_a_place_that_takes_no_file(tmp_path, monkeypatch):
    def refuses(path, *arguments, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuses)
    with pytest.raises(nlme.FitError, match=r"a.npz' cannot be written \(Permission denied\)"):
        Checkpoint(tmp_path / "a.npz", "told", 0.0)


def test_looking_whether_it_can_be_written_leaves_nothing(tmp_path):
    file = Checkpoint(tmp_path / "a.npz", "told", 0.0)
    assert list(tmp_path.iterdir()) == [] and file.read() is None
    file.write({"x": np.arange(3.0)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"] and file.read()["x"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("content", [b"", b"some words", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_checkpoint(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(nlme.FitError, match="is not a checkpoint, or not a whole one; delete it") as caught:
        Checkpoint(tmp_path / "a.npz", "told", 0.0).read()
    assert "pickle" not in str(caught.value)


def test_a_file_with_one_bit_changed_is_refused_or_read_as_it_was(tmp_path):
    path, wanted = tmp_path / "a.npz", {"x": np.arange(3.0), "name/0": np.ones((2, 2), int), "y": np.array("words")}
    Checkpoint(path, "told", 0.0).write(wanted)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            found = Checkpoint(path, "told", 0.0).read()
        except nlme.FitError:
            refused += 1
            continue
        assert found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert refused > len(whole) / 3


def test_an_array_by_itself_is_no_checkpoint(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3.0))
    with pytest.raises(nlme.FitError, match="is not a checkpoint"):
        Checkpoint(tmp_path / "a.npy", "told", 0.0).read()


def test_the_folder_of_several_checkpoints(tmp_path):
    assert folder_of(None) is None and folder_of(tmp_path / "new" / "folder").is_dir()
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/below"):
        with pytest.raises(nlme.FitError, match="a file stands where a folder belongs"):
            folder_of(tmp_path / place)
