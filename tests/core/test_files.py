"""Files are there whole or not at all."""

import os
import re
import subprocess
import sys

import pytest

from lawful.files import replacing, write_all


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as temporary:
        print("half", file=temporary.open("w"), end=0)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_of_several_files_none_is_written_where_one_cannot_be(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write_all({tmp_path / "a": b"new", tmp_path / "file" / "b": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a", "file"]
    write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"1", b"2"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from lawful import files\n"
        "with files.replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "a[1].txt"
    done = subprocess.Popen([sys.executable, "-c", code, str(target)])
    assert done.wait(120) == -9
    (left,) = names(tmp_path)
    assert re.fullmatch(rf"\.a\[1\]\.txt\.{done.pid}-\d+\.part\.txt", left)
    others = [f".a[1].txt.{os.getppid()}.part.txt", f".b.txt.{done.pid}.part.txt", ".a[1].txt.part"]
    for name in others:
        (tmp_path / name).write_text("of another process or file")
    write_all({target: b"whole"})
    assert names(tmp_path) == sorted([*others, target.name])


def test_two_threads_may_write_one_file(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        assert one.read_text() == "one"
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]
