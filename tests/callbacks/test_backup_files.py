import numpy as np
import pytest

from keras_seqgrad.callbacks import backup_files

HEAD = {"epoch": 3, "name": "ü"}


def arrays():
    return {
        "weights": [np.arange(6, dtype="float32").reshape(2, 3), np.array(7)],
        "none": [],
        "draws": [np.array([True, False]), np.zeros((0, 2), "uint32")],
        "half": [np.array([1.5, 2.0]).astype("bfloat16")],
    }


def written():
    return b"".join(backup_files.parts(HEAD, arrays()))


def test_what_is_read_is_what_was_written(tmp_path):
    backups = backup_files.Backups(tmp_path / "new" / "folder", keep=2)
    assert backups.read() is None
    backups.write(HEAD, arrays())
    head, found = backups.read()
    assert head == HEAD
    assert found.keys() == arrays().keys()
    for name, expected in arrays().items():
        for a, b in zip(found[name], expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_latest_are_kept(keep, tmp_path):
    backups = backup_files.Backups(tmp_path, keep)
    for epoch in range(12):
        backups.write({"epoch": epoch}, {})
    numbers = [backup_files.number(path) for path in backups.paths]
    assert numbers == [12, 11][:keep]
    assert backups.read()[0] == {"epoch": 11}
    (tmp_path / "state-1000000.backup").write_bytes(
        b"".join(backup_files.parts({"epoch": "late"}, {}))
    )
    assert backups.read()[0] == {"epoch": "late"}


def test_every_cut_and_every_flipped_byte_is_seen():
    data = written()
    for length in range(len(data)):
        with pytest.raises(ValueError, match="no state|damaged"):
            backup_files.parse(data[:length])
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="no state|damaged"):
            backup_files.parse(bytes(flipped))


def test_a_stop_before_the_new_name(tmp_path, monkeypatch):
    """What is left is as it was, and the next one finds its way."""
    backups = backup_files.Backups(tmp_path, 2)
    backups.write({"epoch": 0}, {})

    def stop(*args):
        raise InterruptedError

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(backup_files.os, name, stop)
            with pytest.raises(InterruptedError):
                backups.write({"epoch": 1}, {})
        assert backups.read()[0] == {"epoch": 0}
    backups.write({"epoch": 1}, {})
    assert backups.read()[0] == {"epoch": 1}
    backups.delete()
    assert not tmp_path.exists()


def test_nothing_whole(tmp_path):
    backups = backup_files.Backups(tmp_path, 2)
    (tmp_path / "state-000001.backup").touch()
    with pytest.raises(OSError, match="No state in .* is whole: state-000001"):
        backups.read()


def test_files_of_others_stay(tmp_path):
    backups = backup_files.Backups(tmp_path, 2)
    backups.write(HEAD, {})
    (tmp_path / "notes.txt").touch()
    backups.delete()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
