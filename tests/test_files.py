"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from vqaudio.errors import AudioError, UsageError, VqaudioError
from vqaudio.files import check_target, files_below, reason, remove_torn, replacing, user_cache, writing


def test_the_target_appears_only_at_the_end(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists() and temporary.parent == tmp_path
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, SystemExit])
def test_any_failure_leaves_the_folder_as_it_was(tmp_path, failure):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(failure), replacing(path, force=True) as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_files_below_a_folder(tmp_path, caplog):
    for name in ("b/2", "b/a/1", "a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "alias").symlink_to(tmp_path / "b" / "2")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    assert files_below(tmp_path) == [tmp_path / name for name in ("a", "alias", "b/2", "b/a/1")]
    assert not caplog.records
    assert files_below(tmp_path / "gone") == []  # as one that may not be read
    assert caplog.messages == [
        f"Left out: the directory '{tmp_path / 'gone'}' cannot be read: no such file or directory."
    ]


def test_a_disk_that_fills_up_midway(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(AudioError, match=r"file' cannot be written: .+\.$"):
        try:
            with replacing(tmp_path / "file", error=AudioError) as temporary:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
                temporary.write_bytes(bytes(5000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_the_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((os.fstat(number), path.exists())))
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
    ((written, existed),) = synced
    assert written.st_ino == path.stat().st_ino and written.st_size == 3 and not existed


def test_two_that_write_one_file_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with replacing(path, force=True) as one, replacing(path, force=True) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["file"]  # who ends last


def test_what_exists_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"), replacing(path):
        pytest.fail("the body ran")
    with replacing(path, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_what_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(UsageError, match="exists by now"), replacing(path) as temporary:
        temporary.write_bytes(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs" and os.listdir(tmp_path) == ["file"]


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_a_link_that_is_made_and_said_to_exist(tmp_path, monkeypatch):
    """As NFS does it where the answer to the first request is lost."""
    make = os.link

    def link(source, target):
        make(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    with replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    killed = replacing(tmp_path / "file")
    killed.__enter__().write_bytes(b"half")
    (tmp_path / "other.part").write_bytes(b"whole")
    assert len(os.listdir(tmp_path)) == 2
    remove_torn(tmp_path, unchanged_for=60)
    assert len(os.listdir(tmp_path)) == 2  # somebody may still be writing
    remove_torn(tmp_path)
    assert os.listdir(tmp_path) == ["other.part"]
    remove_torn(tmp_path / "nowhere")


def test_what_a_kill_left_and_cannot_be_removed_is_an_error(tmp_path):
    (tmp_path / ".gone.part").symlink_to("nothing")  # as a file that another process removes first
    remove_torn(tmp_path)
    (tmp_path / ".folder.part").mkdir()
    with pytest.raises(OSError):
        remove_torn(tmp_path)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_not_replaced(tmp_path, force):
    with pytest.raises(UsageError, match="is a folder"), replacing(tmp_path, force):
        pytest.fail("the body ran")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "missing" / "file", tmp_path / "file" / "file", tmp_path / ("x" * 300) / "file"):
        with pytest.raises(VqaudioError, match="cannot be written"), replacing(path) as temporary:
            temporary.write_bytes(b"new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(VqaudioError, match="permission denied"), replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")


def test_a_link_keeps_pointing_at_the_new_file(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link", force=True) as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_what_is_no_file_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for force in (False, True):
            check_target(path, force)
            with replacing(path, force) as temporary:
                temporary.write_bytes(b"new")
            assert os.read(reader, 9) == b"new"
    finally:
        os.close(reader)
    assert path.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_writing_a_file_or_to_what_is_open(tmp_path):
    with writing(tmp_path / "a") as file:
        file.write(b"one")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"one"
    with pytest.raises(UsageError, match="exists"), writing(tmp_path / "a"):
        pass
    with writing(tmp_path / "a", force=True) as file:
        file.write(b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    stream = io.BytesIO()
    with writing(stream) as file:
        file.write(b"two")
    assert stream.getvalue() == b"two"


def test_the_cache_lies_where_the_environment_says_or_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("kind") == tmp_path / "vqaudio" / "kind" and os.listdir(tmp_path) == []
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert user_cache("kind") == tmp_path / "home" / ".cache" / "vqaudio" / "kind"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache("kind") == tmp_path / "home" / ".cache" / "vqaudio" / "kind"


def test_without_a_home_the_cache_has_to_be_named(tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(VqaudioError, match="XDG_CACHE_HOME has to name a folder"):
        user_cache("kind")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("kind") == tmp_path / "vqaudio" / "kind"


def test_a_reason_reads_on_behind_a_colon_and_is_never_empty():
    assert reason(OSError(errno.ENOSPC, "No space left on device")) == "no space left on device"
    assert reason(OSError("Odd words")) == "odd words"
    assert reason(TimeoutError()) == "TimeoutError"  # which has no words
