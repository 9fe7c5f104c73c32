"""What commands write is whole, is recorded in its folder, and never takes the place of a file of the user's."""

from __future__ import annotations

import json

import pytest

import nlme
from nlme.cli.written import RECORD, Folder, begin, put, require_file, so_far


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != RECORD)


def text(words):
    return lambda path: path.write_text(words)


def test_a_file_is_whole_or_not_there(tmp_path):
    begin()
    put(tmp_path / "new" / "a.csv", text("old"))

    def half(path):
        assert path.suffix == ".csv"  # the ending says in which form a picture or a page is written
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "new" / "a.csv", half)
    assert names_in(tmp_path) == ["new/a.csv"] and (tmp_path / "new" / "a.csv").read_text() == "old"
    assert so_far() == (tmp_path / "new" / "a.csv",)


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "there.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "there.csv")
    put(tmp_path / "link.csv", text("new"))
    assert (tmp_path / "there.csv").read_text() == "new" and (tmp_path / "link.csv").is_symlink()


def test_files_of_the_user_are_not_replaced(tmp_path):
    folder = Folder(tmp_path, "report")
    folder.add("own.csv", text("1"))
    folder.add("own.csv", text("2"))
    (tmp_path / "users.csv").write_text("mine")
    with pytest.raises(nlme.FitError, match=r"users.csv was not written by nlme.*--out"):
        folder.add("users.csv", text("3"))
    (tmp_path / "own.csv").write_text("2, and a remark")
    with pytest.raises(nlme.FitError, match="own.csv has been changed since"):
        folder.require_own(["own.csv"])
    assert (tmp_path / "users.csv").read_text() == "mine"


def test_a_copy_replaces_only_a_copy(tmp_path):
    (tmp_path / "a.py").write_text("a = 1")
    folder = Folder(tmp_path / "fit", "model")
    folder.add_copy(tmp_path / "a.py", "a.py")
    (tmp_path / "a.py").write_text("a = 2")
    folder.add_copy(tmp_path / "a.py", "a.py")
    assert (tmp_path / "fit" / "a.py").read_text() == "a = 2"
    (tmp_path / "fit" / "a.py").write_text("a = 3")
    with pytest.raises(nlme.FitError, match="changed since"):
        folder.require_copy(tmp_path / "a.py", "a.py")
    (tmp_path / "a.py").write_text("a = 3")
    folder.require_copy(tmp_path / "a.py", "a.py")  # nothing would be lost


def test_only_what_was_written_and_left_alone_is_removed(tmp_path):
    boot, data = Folder(tmp_path, "bootstrap"), Folder(tmp_path, "data")
    for name in ("a.csv", "figures/b.png", "edited.csv", "spared.csv"):
        boot.add(name, text(name))
    data.add("nca.csv", text("of the data"))
    (tmp_path / "edited.csv").write_text("with a remark")
    (tmp_path / "users.csv").write_text("mine")
    boot.clear(["bootstrap"], but=[tmp_path / "spared.csv"])
    assert names_in(tmp_path) == ["edited.csv", "nca.csv", "spared.csv", "users.csv"]
    assert set(json.loads((tmp_path / RECORD).read_text())) == {"nca.csv", "spared.csv"}


@pytest.mark.parametrize("record", ["{", "[]", '{"a.csv": 1}', '{"a.csv": {"group": "report"}}'])
def test_a_record_that_cannot_be_read_says_nothing(tmp_path, record):
    folder = Folder(tmp_path, "report")
    folder.add("a.csv", text("1"))
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(nlme.FitError, match="was not written"):
        folder.add("a.csv", text("2"))
    folder.clear(["report"])
    assert names_in(tmp_path) == ["a.csv"]


def test_a_record_reaches_no_file_outside_its_folder(tmp_path):
    folder = Folder(tmp_path / "fit", "report")
    folder.add("a.csv", text("1"))
    (tmp_path / "out.csv").write_text("1")
    record = tmp_path / "fit" / RECORD
    record.write_text(record.read_text().replace("a.csv", "../out.csv"))
    folder.clear(["report"])
    assert (tmp_path / "out.csv").exists()


def test_a_file_that_is_read_or_is_a_folder_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("1")
    with pytest.raises(nlme.FitError, match="is a file that is read here"):
        require_file(tmp_path / "own.csv", [tmp_path / "x" / ".." / "own.csv", tmp_path / "own.csv"])
    with pytest.raises(nlme.FitError, match="is a folder; name a file"):
        require_file(tmp_path, [])
    require_file(tmp_path / "other.csv", [tmp_path / "own.csv"])
