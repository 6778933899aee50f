"""The dynamic regulariser of FPTT around any optimizer.

A running average of the parameters and a multiplier for each of them carry the
risk of what was seen before, so that the loss of the present part of a sequence
can be minimised alone.
"""

from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.optimizers.regularizer import (
    FORMS,
    check_settings,
    moved,
    regularizer_gradient,
)
from keras_seqgrad.tensors import arguments


def is_overwritten(variable):
    """Whether Keras puts the gradient itself in the variable (float8)."""
    return getattr(variable, "overwrite_with_gradient", False)


def find(optimizer):
    """The `FPTT` that `optimizer` is or wraps, or None."""
    while optimizer is not None and not isinstance(optimizer, FPTT):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return optimizer


def wrap(optimizer, **settings):
    """`optimizer` with `FPTT` around its innermost, loss scale outside."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(
            FPTT(optimizer.inner_optimizer, **settings),
            initial_scale=optimizer.initial_scale,
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
        )
    return FPTT(optimizer, **settings)


# `ksg.methods.FPTT` is registered by the class name.
@keras.saving.register_keras_serializable("keras_seqgrad", "FPTTOptimizer")
class FPTT(keras.optimizers.Optimizer):
    """The dynamic regulariser of forward propagation through time.

    Wraps an optimizer. Use it where a model takes many updates, each on a part
    of what it should learn (parts of a sequence, batches that differ), and
    should not drift to what the last part wants; `ksg.methods.FPTT` does so
    for the parts of a sequence. Not the choice where every update sees the
    whole loss, nor where memory is short: it keeps two more copies of the
    parameters.

    Rule, with W the parameters, V their average (W at first), m the
    multipliers (0 at first) and g the gradient of the present loss:

        g' = g + weight alpha (W - V) - c (1 - rho) m
        W <- one step of the inner optimizer along g'
        m <- m - alpha (W - V)
        V <- (1 - beta) V + beta W - (beta / alpha) m

    c is 1/2 with form="paper", as in the printed formula, and 1 with
    form="code", as in the authors' code. Only with c = 1, rho = 0 and
    weight = 1 is the new m the gradient of the present loss at the exact
    minimiser; but only an inner optimizer without a step size gets there. What
    counts for one that takes small steps: where W moves by d an update, V runs
    ahead by as much, and what is left of the regulariser is

        g' = g + alpha (c (1 - rho) / beta - weight) d

    which is nothing by the defaults, and with form="code" a friction: where
    beta is 1/2, no update gets much longer than |g| / alpha. Adam's are as long
    as the learning rate, however small g is; so parameters with |g| below alpha
    times the rate are slowed down.

    All three of W, V and m go on from one sequence to the next.

    The regulariser is added before the inner optimizer clips, accumulates and
    averages; m and V move when the parameters do, that is once in
    `gradient_accumulation_steps` calls, and see the parameters as the inner
    optimizer leaves them. Set those options, and the learning rate, on the
    inner optimizer; reading and setting `learning_rate` here reaches it.
    Sparse gradients become dense. A variable without a gradient stays as it
    is. For loss scaling write LossScaleOptimizer(FPTT(inner)).

    Args:
        inner: The optimizer to wrap, or its name.
        alpha: Strength of the regulariser, above 0.
        beta: Share of the new parameters in the average, in (0, 1].
        form: "paper" or "code".
        weight: Factor of the quadratic term, 0 or more.
        rho: Share of the multiplier's term to leave out, in [0, 1].
        name: Name of the optimizer.

    Raises:
        ValueError: An argument is out of its range, or `inner` scales the loss
            dynamically or is itself FPTT.

    Reference:
        Kag and Saligrama, 2021. Training recurrent neural networks via
        forward propagation through time. ICML, PMLR 139:5189-5200.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> inner = keras.optimizers.Adam(1e-3, clipnorm=1.0)
    >>> optimizer = ksg.optimizers.FPTT(inner, alpha=0.1)
    >>> model.compile(optimizer, "mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)
    """

    def __init__(
        self,
        inner: Any,
        alpha: float = 0.01,
        beta: float = 0.5,
        form: str = "paper",
        weight: float = 1.0,
        rho: float = 0.0,
        name: str | None = None,
    ) -> None:
        check_settings(alpha, beta, form, weight, rho)
        inner = arguments.optimizer(inner, "inner")
        if isinstance(inner, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "FPTT must see gradients that are not scaled. Expected "
                "LossScaleOptimizer(FPTT(inner)), received "
                "FPTT(LossScaleOptimizer(...))."
            )
        if find(inner) is not None:
            raise ValueError(
                "`inner` must be an optimizer without FPTT. "
                f"Received: inner={inner.__class__.__name__}"
            )
        # The base class has a rate of its own, which is not used.
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.form = form
        self.weight = float(weight)
        self.rho = float(rho)
        self.built_on = []
        self.regularized = []
        self.multipliers = []
        self.averages = []

    def build(self, variables):
        """Makes the averages and multipliers of `variables`."""
        variables = self.built_on = list(variables)
        self.regularized = [v for v in variables if not is_overwritten(v)]
        self.multipliers = self._beside_each("multiplier")
        self.averages = self._beside_each("average")
        self.started = self.add_variable(
            shape=(),
            dtype="bool",
            initializer="zeros",
            aggregation="only_first_replica",
            name="started",
        )
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)

    def _beside_each(self, name):
        return [
            self.add_variable(
                shape=variable.shape,
                dtype=variable.dtype,
                # Every replica computes the same.
                aggregation="only_first_replica",
                name=f"{variable.path.replace('/', '_')}_{name}",
            )
            for variable in self.regularized
        ]

    def apply(self, grads, trainable_variables=None):
        """Moves the variables along their gradients.

        Args:
            grads: One gradient, or None, for each variable.
            trainable_variables: The variables; default: all it was built on.
        """
        if trainable_variables is None and not self.built:
            raise ValueError(
                "`apply(grads)` needs an optimizer that knows its variables. "
                "Call `build(variables)` first, or `apply(grads, variables)`."
            )
        if trainable_variables is None:
            trainable_variables = self.built_on
        grads, variables = list(grads), list(trainable_variables)
        if not self.built:
            self.build(variables)
        places = self._places(variables)
        # What each has before the update, which both rules need.
        held = {}
        for place, known in places.items():
            if grads[place] is not None:
                held[place] = self._values(known)
                grads[place] = self._regularize(grads[place], *held[place])
        for known in {*range(len(self.averages))} - {places[p] for p in held}:
            # What stays as it is, is its own average.
            self.assign(self.averages[known], self._values(known)[-1])
        inner = self.inner_optimizer
        before = tf.convert_to_tensor(inner.iterations)
        inner.apply(grads, variables)
        took_place = None
        if inner.gradient_accumulation_steps:
            took_place = tf.convert_to_tensor(inner.iterations) > before
        for place, (_, *old) in held.items():
            self._move(places[place], old, took_place)
        self.assign(
            self.started,
            True if took_place is None else took_place | self.started,
        )

    def _places(self, variables):
        """Place in `variables` -> place in `regularized`."""
        known = {id(v): place for place, v in enumerate(self.regularized)}
        unknown = [
            v for v in variables if id(v) not in known and not is_overwritten(v)
        ]
        if unknown:
            raise ValueError(
                f"Unknown variable: {unknown[0]}. Expected one of those the "
                "optimizer was built on. Make a new optimizer for others."
            )
        return {
            place: known[id(v)]
            for place, v in enumerate(variables)
            if id(v) in known
        }

    def _values(self, place):
        """(variable, multiplier, average); the average is W at first."""
        variable, multiplier, average = (
            tf.convert_to_tensor(kind[place])
            for kind in (self.regularized, self.multipliers, self.averages)
        )
        return variable, multiplier, tf.where(self.started, average, variable)

    def _regularize(self, gradient, variable, multiplier, average):
        value = regularizer_gradient(
            variable,
            multiplier,
            average,
            self.alpha,
            FORMS[self.form] * (1.0 - self.rho),
            self.weight,
        )
        # The inner optimizer divides by its constant loss scale, and the
        # gradients of the replicas are summed.
        scale = self.loss_scale_factor or 1.0
        scale /= tf.distribute.get_strategy().num_replicas_in_sync
        if scale != 1.0:
            value = value * scale
        return tf.cast(tf.convert_to_tensor(gradient), value.dtype) + value

    def _move(self, place, old, took_place):
        variable = tf.convert_to_tensor(self.regularized[place])
        new = moved(variable, *old, self.alpha, self.beta)
        held = self.multipliers[place], self.averages[place]
        for each, before, after in zip(held, old, new, strict=True):
            if took_place is not None:
                after = tf.where(took_place, after, before)
            self.assign(each, after)

    def average(self, reset_multipliers: bool = True) -> None:
        """Moves the parameters to their average, as at the end of an epoch.

        Args:
            reset_multipliers: Whether the multipliers start from 0 again, as
                in most of the authors' experiments.
        """
        arguments.flag(reset_multipliers, "reset_multipliers")
        for place, variable in enumerate(self.regularized):
            _, multiplier, average = self._values(place)
            variable.assign(average)
            if reset_multipliers:
                self.multipliers[place].assign(tf.zeros_like(multiplier))

    # --- what is the inner optimizer's ------------------------------------

    @property
    def variables(self):
        return super().variables + self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self) -> Any:
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        # The constructor of the base class sets it before there is an inner
        # optimizer; LossScaleOptimizer sets it to None later.
        inner = getattr(self, "inner_optimizer", None)
        if inner is not None:
            inner.loss_scale_factor = factor

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def set_weights(self, weights):
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    # --- saving -----------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments beside `inner` and `name`."""
        return {
            "alpha": self.alpha,
            "beta": self.beta,
            "form": self.form,
            "weight": self.weight,
            "rho": self.rho,
        }

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"inner": inner, **self.settings, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = keras.saving.deserialize_keras_object(
            config["inner"], custom_objects=custom_objects
        )
        return cls(**{**config, "inner": inner})
