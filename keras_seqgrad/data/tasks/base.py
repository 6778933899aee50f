"""What the synthetic tasks share: drawn batches as a seeded dataset."""

import abc
import itertools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.tensors import arguments


class Task(abc.ABC):
    """A task whose examples are drawn anew for every batch.

    A task says how to draw (`draw`) and what a model that has learnt nothing
    from the sequence would score (`reference_error`).
    """

    @property
    @abc.abstractmethod
    def reference_error(self) -> float:
        """Loss of the best answer that does not depend on the input."""

    @abc.abstractmethod
    def draw(
        self, count: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, ...]:
        """Draws `count` examples by a NumPy `generator`.

        Returns:
            Tuple of arrays `(x, y)` or `(x, y, sample_weight)`.
        """

    def batches(
        self, batch_size: int, generator: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of a pass, without end, drawn by a NumPy `generator`."""
        while True:
            yield self.draw(batch_size, generator)

    def dataset(
        self, batch_size: int, steps: int | None = None, seed: int | None = None
    ) -> tf.data.Dataset:
        """Batches of fresh examples as a `tf.data.Dataset`.

        Every pass draws new examples; the same seed gives the same sequence
        of passes. For examples that stay the same in every epoch, as for
        validation, append `.cache()`.

        Args:
            batch_size: Examples in a batch.
            steps: Batches in one pass. Default: the dataset never ends; give
                `steps_per_epoch` to `fit`.
            seed: Integer. Default: drawn from NumPy's global generator, which
                `keras.utils.set_random_seed` seeds.
        """
        batch_size = arguments.positive_integer(batch_size, "batch_size")
        if steps is not None:
            steps = arguments.positive_integer(steps, "steps")
        seed = arguments.seed(seed)
        if seed is None:
            seed = np.random.randint(2**31)
        epochs = iter(range(2**63))

        def batches():
            generator = np.random.default_rng([seed, next(epochs)])
            drawn = self.batches(batch_size, generator)
            return itertools.islice(drawn, steps)

        example = self.draw(batch_size, np.random.default_rng(0))
        dataset = tf.data.Dataset.from_generator(
            batches,
            output_signature=keras.tree.map_structure(
                lambda array: tf.TensorSpec(array.shape, array.dtype), example
            ),
        )
        cardinality = tf.data.INFINITE_CARDINALITY if steps is None else steps
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(cardinality)
        )
        return dataset.prefetch(tf.data.AUTOTUNE)


def at_least(value, least, name, reason):
    """Returns `value` as an int of `least` or more, or refuses it."""
    value = arguments.positive_integer(value, name)
    if value < least:
        raise ValueError(
            f"`{name}` must be {least} or more: {reason}. "
            f"Received: {name}={value}"
        )
    return value
