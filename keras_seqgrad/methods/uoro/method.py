"""Unbiased online recurrent optimization: an influence of rank one."""

import tensorflow as tf

from keras_seqgrad.methods.base import serializable
from keras_seqgrad.methods.online import Kept, OnlineMethod
from keras_seqgrad.methods.uoro.tangents import pushed
from keras_seqgrad.methods.vectors import (
    as_variables,
    as_vectors,
    dtype_of,
    flat,
    refuse_joined_rows,
    refuse_unbuilt,
    sizes_of,
)
from keras_seqgrad.state.method_state import Draws
from keras_seqgrad.state.vector import join, split
from keras_seqgrad.tensors import arguments, replicas

# Keeps the ratios of norms finite, as in the authors' code.
SMALL = 1e-5


class KeptRankOne(Kept):
    """The state's factor, row by row, and that of the parameters.

    Args:
        units: Units of the state.
        size: Number of parameters.
        dtype: Of both.
        stateful: Whether they are carried.
    """

    def __init__(self, units, size, dtype, stateful):
        super().__init__(tf.TensorSpec([units], dtype), stateful)
        self.parameters = self.add_weight(
            shape=(size,),
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            name="parameters",
        )

    def start(self, window):
        of_state = super().start(window)
        if window.fresh is True:
            return of_state, tf.zeros_like(self.parameters)
        return of_state, tf.convert_to_tensor(self.parameters)

    def keep(self, influence):
        of_state, of_parameters = influence
        super().keep(of_state)
        if self.memory.stateful:
            self.parameters.assign(of_parameters)


@serializable
class UORO(OnlineMethod):
    """Unbiased online recurrent optimization: unbiased, very noisy.

    In place of the influence of all parameters on the whole state, which
    `RTRL` carries, a product of two vectors that equals it in the mean. Use it
    to study what noise costs, and where a batch is one row and steps are
    small. Not for training by batches: one vector serves all rows, and its
    noise grows with their number; `SnAp` has none.

    Rule, with s_0 and s_1 the state of all rows before and after a segment, d
    the gradient of its loss by s_0, and v a new draw of signs:

        gradient = dl/dtheta + (d . s) p
        s = r_0 ds_1/ds_0 s + r_1 v
        p = p / r_0 + v ds_1/dtheta / r_1
        r_0 = sqrt(|p| / |ds_1/ds_0 s|), r_1 = sqrt(|v ds_1/dtheta| / |v|)

    where the norms are those before, each with 1e-5 added. theta are all
    trainable parameters, of all layers. With stateful=True s and p are carried
    from window to window; s is 0 for rows that begin or are reset. Without it
    both are 0 at every window's start. With one target per sequence there is
    one update, at the end, as for `TruncatedBPTT`.

    Gradient: unbiased for parameters that stand still. Its noise, the variance
    over the square of the gradient, was 21 for one row of a tanh network of 8
    units and 20 steps of one, 76 for 8 rows, 110 for 32; longer segments have
    less. Memory: O(length) activations, one number for each parameter, and one
    for each unit and row. Time: that of `TruncatedBPTT`, a second pass back
    and one forward, step by step.

    Args:
        length: Steps of a segment; the last one of a window may be shorter.
        seed: Integer seed of the signs; None for a random one.

    Raises:
        ValueError: `length` is not a positive integer; on `compile`, weights
            are not built yet, there is a BatchNormalization below a
            recurrent layer, or the model is a subclass with its own
            `call_segment`.

    Reference:
        Tallec and Ollivier, 2018. Unbiased online recurrent optimization.
        arXiv:1702.05043.

    Example:

    >>> ksg.methods.UORO(length=1, seed=0)
    UORO(length=1, seed=0)
    """

    def __init__(self, length: int, seed: int | None = None) -> None:
        self.length = arguments.positive_integer(length, "length")
        self.seed = arguments.seed(seed, most=arguments.LARGEST_SEED)

    def check(self, model):
        super().check(model)
        if model.is_opaque:
            raise ValueError(
                "UORO takes tangents through the cells of recurrent layers. "
                "Expected a model made with SequenceModel.from_model(model) "
                "or SequenceModel(inputs, outputs), received a subclass with "
                "its own `call_segment`. Use ksg.methods.RTRL there."
            )
        refuse_unbuilt(model, type(self).__name__)
        refuse_joined_rows(model, type(self).__name__)

    def build(self, model):
        parts, sizes = model.method_state.parts, sizes_of(model)
        parts["draws"] = Draws(self.seed)
        parts["influence"] = KeptRankOne(
            *sizes, dtype_of(model), model.stateful
        )

    def start(self, window, seed=None):
        pair = window.method_state.draws.next()
        if seed is not None:
            pair = tf.stack([seed, 0])
        return (*super().start(window, seed), pair)

    def keep(self, window, influence):
        super().keep(window, influence[:2])

    def bring(self, window, influence, d_state):
        of_state, of_parameters, _ = influence
        d = as_vectors(d_state, of_state.dtype)
        found = tf.reduce_sum(d * of_state) * of_parameters
        return as_variables(found, window.variables)

    def advance(self, run, influence):
        of_state, of_parameters, pair = influence
        dtype = of_state.dtype
        signs = draw_signs(pair, of_state)
        _, found = run.pull(split(signs, run.ends))
        moved = join(pushed(run, split(of_state, run.leaves)), dtype)
        # Both vectors are of all rows, wherever they are.
        left = tf.cast(tf.reduce_any(moved != 0.0), dtype)
        new, left, *squares = replicas.total(
            [flat(found, dtype), left, square(moved), square(signs)]
        )
        # Where resets have left nothing of it, its partner would be noise.
        of_parameters = tf.where(left > 0, of_parameters, 0.0)
        along = ratio(square(of_parameters), squares[0])
        across = ratio(square(new), squares[1])
        pair = tf.random.experimental.stateless_fold_in(pair, 1, "philox")
        return (
            tf.ensure_shape(along * moved + across * signs, of_state.shape),
            of_parameters / along + new / across,
            pair,
        )

    def get_config(self):
        return {"length": self.length, "seed": self.seed}


def draw_signs(pair, like):
    """A sign for every row and unit, from a pair of seeds."""
    # Integers, because XLA draws other floats from the same seed.
    shape = tf.shape(like) * [replicas.count(), 1]
    bits = tf.random.stateless_uniform(
        shape, pair, 0, 2, dtype="int32", alg="philox"
    )
    return tf.cast(2 * replicas.share(bits, 0) - 1, like.dtype)


def ratio(first, second):
    """The root of the ratio of two norms, given their squares."""
    return tf.sqrt((tf.sqrt(first) + SMALL) / (tf.sqrt(second) + SMALL))


def square(tensor):
    return tf.reduce_sum(tf.square(tensor))
