"""What the four recurrent layers share: the scan, and truncation."""

from typing import Any, Literal

import keras
import tensorflow as tf

from keras_seqgrad.layers.scan import scan, state_is_output
from keras_seqgrad.tensors import arguments, masks
from keras_seqgrad.tensors.shape import shape_of
from keras_seqgrad.truncation import Fixed, Truncation


class Truncated:
    """Mixin for a Keras recurrent layer: runs `scan`, in training with gates.

    Comes before the Keras layer among the base classes and overrides its
    public hook `inner_loop`; weights, masks, states and configuration remain
    those of the Keras layer.
    """

    def __init__(
        self, *args: Any, truncation: Truncation = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.unroll:
            raise ValueError(
                f"Layer {self.name!r} does not unroll: its scan is linear in "
                "time without. Expected: unroll=False. Received: unroll=True. "
                "Leave `unroll` out, or use the layer of the same name in "
                "keras.layers."
            )
        self.truncation = law_of(truncation)
        self.cuts = None if truncation is None else _Cuts(self.truncation)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        mask = _time_mask(mask)
        if self.go_backwards:
            sequences = keras.tree.map_structure(_reversed, sequences)
            mask = None if mask is None else _reversed(mask)
        outputs, state = scan(
            self.cell,
            sequences,
            initial_state,
            training=training,
            mask=mask,
            gates=self.cuts.draw(sequences) if training and self.cuts else None,
        )
        if mask is not None:
            outputs = self._masked(outputs, mask)
        return outputs[:, -1], outputs, state

    def get_config(self):
        config = super().get_config()
        config["truncation"] = keras.saving.serialize_keras_object(
            self.truncation
        )
        return config

    def _masked(self, outputs, mask):
        """What Keras outputs at masked steps where the scan says otherwise."""
        if self.zero_output_for_mask:
            kept = mask
        elif state_is_output(self.cell):
            # Before the first valid step there is no output to repeat; the
            # scan gives the initial state.
            kept = tf.cumsum(tf.cast(mask, "int32"), axis=1) > 0
        else:
            return outputs
        return masks.zeroed(outputs, kept)


class WithoutCudnn(Truncated):
    """`Truncated` for layers that Keras runs by cuDNN where it can.

    cuDNN kernels know neither XLA nor gates.
    """

    def __init__(
        self,
        units: int,
        *args: Any,
        truncation: Truncation = None,
        use_cudnn: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ) -> None:
        units = arguments.positive_integer(units, "units")
        if use_cudnn is not False and use_cudnn != "auto":
            raise ValueError(
                "This layer has a scan of its own and no cuDNN kernel. "
                "Expected: use_cudnn='auto' or False. "
                f"Received: use_cudnn={use_cudnn!r}. Leave it out, or use the "
                "layer of the same name in keras.layers."
            )
        super().__init__(
            units, *args, truncation=truncation, use_cudnn=False, **kwargs
        )


class _Cuts(keras.layers.Layer):
    """Draws gates by a law.

    A layer of its own, so that its seed is saved with the model, and the
    recurrent layer's weights still fit the Keras layer and the reverse.
    """

    def __init__(self, law):
        super().__init__(name="cuts")
        self.law = law
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def draw(self, sequences):
        """Gates (time,) or (batch, time) for nested (batch, time, ...)."""
        first = keras.tree.flatten(sequences)[0]
        batch_size, steps, *_ = shape_of(first)
        seed = tf.cast(self.seed_generator.next(), "int32")
        # Cuts of its own for each row cost nothing here and average out.
        return self.law.gates(steps, batch_size, seed)

    def save_own_variables(self, store):
        store["seed"] = self.seed_generator.state.numpy()

    def load_own_variables(self, store):
        if "seed" in store.keys():
            self.seed_generator.state.assign(store["seed"])


def law_of(truncation):
    """The truncation law meant by the argument `truncation` of a layer."""
    if isinstance(truncation, dict):
        truncation = keras.saving.deserialize_keras_object(truncation)
    if arguments.is_integer(truncation):
        return Fixed(arguments.positive_integer(truncation, "truncation"))
    is_law = hasattr(truncation, "gates") and not isinstance(truncation, type)
    if truncation is None or is_law:
        return truncation
    raise ValueError(
        "`truncation` must be None, a number of steps, "
        "ksg.truncation.Fixed(length) or "
        "ksg.truncation.Random(mean_length, alpha). "
        f"Received: truncation={arguments.told(truncation)}"
    )


def _reversed(tensor):
    return tf.reverse(tensor, [1])


def _time_mask(mask):
    """`mask` as Keras hands it over, as boolean (batch, time) or None."""
    mask = keras.tree.flatten(mask)[0]
    if mask is None:
        return None
    mask = tf.cast(mask, "bool")
    return mask[..., 0] if mask.shape.rank == 3 else mask
