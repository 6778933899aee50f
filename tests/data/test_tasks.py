import gzip
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.data import tasks

DRAWN = [
    tasks.Adding(20),
    tasks.RepeatCopy(3, 2, bits=4),
    tasks.copy(5),
    tasks.TemporalOrder(20),
    tasks.TemporalOrder(20, symbols=3),
    tasks.InfluenceBalancing(10),
    tasks.MarkedSymbol(30, delay=(3, 5)),
]


def draw(task, count=20_000, seed=0):
    return task.draw(count, np.random.default_rng(seed))


def equal(first, second):
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=1)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("task", DRAWN, ids=lambda t: type(t).__name__)
def test_datasets_are_finite_static_and_seeded(task):
    dataset = task.dataset(4, steps=3, seed=1)
    assert int(dataset.cardinality()) == 3
    for spec in keras.tree.flatten(dataset.element_spec):
        assert spec.shape.is_fully_defined() and spec.shape[0] == 4
    epochs = [list(dataset), list(dataset)]
    again = task.dataset(4, steps=3, seed=1)
    assert len(epochs[0]) == 3
    assert equal(epochs, [list(again), list(again)])
    if not isinstance(task, tasks.InfluenceBalancing):
        assert not equal(epochs[0], epochs[1])
        assert not equal(epochs[0], list(task.dataset(4, steps=3, seed=2)))
        cached = task.dataset(4, steps=3, seed=1).cache()
        assert equal(list(cached), list(cached))


def test_marked_symbol_is_asked_for_after_a_delay_across_windows():
    task = tasks.MarkedSymbol(7, delay=(3, 5), symbols=4, shown=2)
    windows = list(task.dataset(2, steps=40, seed=0))
    x, y, weight = (
        np.concatenate(parts, axis=1) for parts in zip(*windows, strict=True)
    )
    np.testing.assert_array_equal(weight, x[..., -1])
    seen = set()
    for row, targets in zip(x, y, strict=True):
        [marked] = np.nonzero(row[:, 4])
        [asked] = np.nonzero(row[:, 5])
        assert len(asked) > 25 and len(marked) - len(asked) in (0, 1)
        marked = marked[: len(asked)]
        assert set(asked - marked) <= set(range(4, 8))
        np.testing.assert_array_equal(targets[asked], row[marked].argmax(1))
        seen |= set(targets[asked])
        assert not np.any(np.delete(targets, asked))
        blank = row[:, :4].sum(axis=1) == 0
        assert blank[asked].all() and not blank[marked].any()
    assert seen == set(range(4))
    with pytest.raises(ValueError, match=r"`delay\[1\]` must be 4 or more"):
        tasks.MarkedSymbol(7, delay=(4, 3))


def test_without_steps_a_dataset_never_ends():
    dataset = tasks.Adding(20).dataset(4)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert len(list(dataset.take(7))) == 7


def test_adding_marks_one_step_of_each_half():
    x, y = draw(tasks.Adding(9))
    values, markers = x[..., 0], x[..., 1]
    assert (markers[:, :4].sum(axis=1) == 1).all()
    assert (markers[:, 4:].sum(axis=1) == 1).all()
    np.testing.assert_allclose((values * markers).sum(1), y[:, 0], rtol=1e-6)
    assert (markers.mean(axis=0) > 0.15).all()


def test_adding_reference_error_is_that_of_the_mean():
    _, y = draw(tasks.Adding(9))
    np.testing.assert_allclose(y.mean(), 1, atol=0.012)
    error = np.mean((y - 1) ** 2)
    np.testing.assert_allclose(
        error, tasks.Adding(9).reference_error, atol=0.006
    )


def test_repeat_copy_by_hand():
    task = tasks.RepeatCopy(2, 2, bits=3, varied=False)
    x, y, weight = draw(task, 5)
    assert x.shape == (5, 7, 5) and y.shape == (5, 7, 3)
    np.testing.assert_array_equal(y[:, 3:5], x[:, :2, :3])
    np.testing.assert_array_equal(y[:, 5:7], x[:, :2, :3])
    assert (x[:, 2] == [0, 0, 0, 1, 1]).all() and (x[:, 3:] == 0).all()
    assert (x[:, :2, 3:] == 0).all() and (y[:, :3] == 0).all()
    np.testing.assert_allclose(weight, [[0, 0, 0] + [7 / 4] * 4] * 5)


def test_varied_repeat_copy_ends_where_it_must():
    task = tasks.RepeatCopy(4, 3, bits=8)
    x, y, weight = draw(task, 3000)
    length = x[..., 8].argmax(axis=1)
    repeats = np.rint(x[..., 9].max(axis=1) * 3).astype(int)
    assert set(length) == {1, 2, 3, 4} and set(repeats) == {1, 2, 3}
    for i in range(200):
        n, r = length[i], repeats[i]
        end = n + 1 + n * r
        expected = np.tile(x[i, :n, :8], (r, 1))
        np.testing.assert_array_equal(y[i, n + 1 : end], expected)
        assert (weight[i] > 0).tolist() == [
            n < step < end for step in range(task.time)
        ]
    counted = (weight > 0).sum() * 8 / len(x)
    np.testing.assert_allclose(counted, task.bits_per_sequence, rtol=0.05)


@pytest.mark.parametrize("varied", [True, False])
def test_copy_reference_error_is_the_keras_loss_of_one_half(varied):
    task = tasks.RepeatCopy(4, 2, varied=varied)
    _, y, weight = draw(task, 50)
    loss = keras.losses.BinaryCrossentropy()(y, 0.5 + 0 * y, weight)
    np.testing.assert_allclose(loss, task.reference_error, rtol=1e-5)
    # Knowing nothing of the pattern, no constant does better.
    other = keras.losses.BinaryCrossentropy()(y, 0.6 + 0 * y, weight)
    assert other > loss


def test_copy_is_one_repeat():
    task = tasks.copy(5, varied=False)
    assert task.time == 11 and task.bits_per_sequence == 40
    x, y, _ = draw(task, 7)
    np.testing.assert_array_equal(y[:, 6:], x[:, :5, :8])


@pytest.mark.parametrize(
    "symbols, places",
    [(2, [(10, 20), (50, 60)]), (3, [(10, 20), (33, 43), (66, 76)])],
)
def test_temporal_order(symbols, places):
    task = tasks.TemporalOrder(100, symbols)
    x, y = draw(task, 4000)
    assert (x.sum(axis=2) == 1).all() and x.shape == (4000, 100, 6)
    shown = x.argmax(axis=2)
    for row, target in zip(shown[:300], y, strict=False):
        steps = np.flatnonzero(row >= 4)
        assert len(steps) == symbols
        for step, (start, stop) in zip(steps, places, strict=True):
            assert start <= step <= stop
        bits = row[steps] - 4
        assert target == int("".join(map(str, bits)), 2)
    # Guessing: all classes are equally frequent.
    share = np.bincount(y, minlength=task.classes) / len(y)
    np.testing.assert_allclose(share, task.chance_accuracy, atol=0.03)
    guess = keras.losses.SparseCategoricalCrossentropy()(
        y, np.full((len(y), task.classes), 1 / task.classes)
    )
    np.testing.assert_allclose(guess, task.reference_error, rtol=1e-5)


def write_mnist(folder, packed):
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 12), ("t10k", 6)):
        images = generator.integers(0, 256, (count, 28, 28)).astype("uint8")
        labels = (np.arange(count) % 10).astype("uint8")
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim])
            sizes = np.array(array.shape, dtype=">i4").tobytes()
            data = head + sizes + array.tobytes()
            name = f"{prefix}-{kind}-ubyte"
            if packed:
                data, name = gzip.compress(data), name + ".gz"
            (folder / name).write_bytes(data)
    return images, labels


@pytest.mark.parametrize("packed", [True, False])
def test_sequential_and_permuted_mnist(tmp_path, packed):
    images, labels = write_mnist(tmp_path, packed)
    task = tasks.SequentialMNIST(path=tmp_path)
    dataset = task.dataset(3, seed=0, split="test")
    assert int(dataset.cardinality()) == 2
    assert int(task.dataset(5).cardinality()) == 2
    assert dataset.element_spec[0].shape == (3, 784, 1)
    seen = {}
    for x, y in dataset:
        seen |= dict(zip(y.numpy().tolist(), x.numpy()[..., 0], strict=True))
    for image, label in zip(images, labels, strict=True):
        np.testing.assert_allclose(seen[label], image.ravel() / 255, rtol=1e-6)

    mixed = tasks.SequentialMNIST(True, permutation_seed=3, path=tmp_path)
    assert sorted(mixed.permutation) == list(range(784))
    for x, y in mixed.dataset(1, steps=4, seed=0, split="test"):
        plain = seen[int(y[0])]
        np.testing.assert_array_equal(x[0, :, 0], plain[mixed.permutation])
        assert not np.array_equal(x[0, :, 0], plain)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda p: tasks.Adding(1), ValueError, "2 or more: two steps"),
        (lambda p: tasks.TemporalOrder(9), ValueError, "10 or more: each sym"),
        (lambda p: tasks.TemporalOrder(60, 4), ValueError, "2 .four classes."),
        (lambda p: tasks.copy(0), ValueError, "`length` must be an integer"),
        (lambda p: tasks.Adding(9).dataset(0), ValueError, "`batch_size` must"),
        (
            lambda p: tasks.SequentialMNIST(path=p),
            FileNotFoundError,
            "train-images-idx3-ubyte is missing, with or without .gz",
        ),
    ],
)
def test_refusals(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path)


def test_mnist_fails_at_once_without_data(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match="'mnist' is not prepared in"):
        tasks.SequentialMNIST(data_dir=tmp_path)


def test_mnist_refuses_other_files_and_splits(tmp_path):
    write_mnist(tmp_path, packed=False)
    task = tasks.SequentialMNIST(path=tmp_path)
    with pytest.raises(
        ValueError, match=r"one of \('train', 'test'\)\. Received"
    ):
        task.dataset(1, split="valid")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="Received: 50 4b 03 in train-labels"):
        tasks.SequentialMNIST(path=tmp_path)


def test_no_more_is_unpacked_than_an_idx_file_may_hold(tmp_path):
    """A gigabyte of zeros is a megabyte when packed."""
    head = b"\x00\x00\x08\x03" + np.array([2, 28, 28], ">u4").tobytes()
    path = tmp_path / "train-images-idx3-ubyte.gz"
    opened = gzip.open(path, "wb", compresslevel=1)
    with opened as file:
        file.write(head)
        for _ in range(16):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="must hold 1568 values.*more"):
        tasks.SequentialMNIST(path=tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


@pytest.mark.parametrize(
    "sizes, values, text",
    [
        ([60_001, 28, 28], 0, r"at most \(60000, 28, 28\). Received: \(60001"),
        ([2**32 - 1, 1, 1], 0, r"Received: \(4294967295, 1, 1\)"),
        ([4], 4, r"Received: \(4,\) of rank 1"),
        ([2, 2, 2], 7, "must hold 8 values, as its head says. Received: 7"),
    ],
    ids=["many", "all", "rank", "short"],
)
def test_sizes_of_an_idx_file(sizes, values, text, tmp_path):
    head = bytes([0, 0, 8, len(sizes)]) + np.array(sizes, ">u4").tobytes()
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(head + bytes(values))
    with pytest.raises(ValueError, match=text):
        tasks.SequentialMNIST(path=tmp_path)
