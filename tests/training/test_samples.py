"""The files of samples: found by step and name, whatever else lies there."""

from vqaudio.training.samples import find_samples, sample_path


def test_samples_are_found_in_the_order_of_their_steps(tmp_path):
    assert find_samples(tmp_path) == {}
    paths = {(step, name): sample_path(tmp_path, step, name) for step in (900, 10000) for name in ("a", "b-c")}
    (tmp_path / "samples").mkdir()
    for path in paths.values():
        path.touch()
    for other in ("notes.txt", "x-a.flac", "7.flac", ".5-a.flac"):
        (tmp_path / "samples" / other).touch()
    found = find_samples(tmp_path)
    assert list(found) == [900, 10000]
    assert {(step, name): path for step, names in found.items() for name, path in names.items()} == paths
