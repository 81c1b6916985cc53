"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat

import pytest

from vqaudio.errors import AudioError, UsageError, VqaudioError
from vqaudio.files import files_below, remove_torn, replacing, writing


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


def test_a_device_is_written_and_not_replaced():
    with replacing(os.devnull, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert not os.path.isfile(os.devnull)


def test_writing_a_file_or_to_what_is_open(tmp_path):
    with writing(tmp_path / "a") as file:
        file.write(b"one")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"one"
    with pytest.raises(UsageError, match="exists"), writing(tmp_path / "a"):
        pass
    stream = io.BytesIO()
    with writing(stream) as file:
        file.write(b"two")
    assert stream.getvalue() == b"two"
