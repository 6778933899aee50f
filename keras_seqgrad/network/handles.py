"""What users of a Keras model reach for: layers, shapes, summary, export."""

from collections import UserList
from os import PathLike
from typing import Any

import keras

from keras_seqgrad.network import export
from keras_seqgrad.network.scans import Scanned
from keras_seqgrad.network.tracing import as_functional, show_again
from keras_seqgrad.tensors import replicas


class Handles(Scanned):
    """A model that shows a network as its own; without one, as Keras does.

    Attributes:
        network: A Sequential or Functional model, or None.
    """

    network = None

    @property
    def distribute_strategy(self):
        """The `tf.distribute` strategy in whose scope the model was made."""
        return replicas.for_keras(super().distribute_strategy)

    @property
    def layers(self):
        """Layers of the network, or those of a subclass."""
        own = super().layers
        if self.network is None:
            return own
        others = [layer for layer in own if layer is not self.network]
        # No list: Keras saves the lists it finds, and these layers have their
        # place in files below the network (see the end of this file).
        return UserList([*self.network.layers, *others])

    @property
    def inputs(self):
        """Flat list of the inputs of the network; a subclass has none."""
        return self._shown_network("inputs").inputs

    @property
    def outputs(self):
        """Flat list of the outputs of the network; a subclass has none."""
        return self._shown_network("outputs").outputs

    @property
    def input_shape(self):
        """Shape of the input of the network, or those of all its inputs."""
        return self._shown_network("input_shape").input_shape

    @property
    def output_shape(self):
        """Shape of the output of the network, or those of all its outputs."""
        return self._shown_network("output_shape").output_shape

    @property
    def input(self):
        """Inputs of the network, nested as it takes them."""
        if self.network is None:
            return super().input
        return as_functional(self.network).input

    @property
    def output(self):
        """Outputs of the network, nested as it gives them."""
        if self.network is None:
            return super().output
        return as_functional(self.network).output

    @property
    def output_names(self):
        """Names of the outputs, as loss and metrics dicts use them."""
        return getattr(self.network, "output_names", None)

    def _shown_network(self, name):
        if self.network is None:
            raise AttributeError(
                f"{type(self).__name__} {self.name!r} has no {name!r}: a "
                "subclass with `call_segment` takes what it is called with."
            )
        return self.network

    def summary(self, *args, **kwargs):
        """Prints the layers of the network, or those of a subclass."""
        if self.network is None:
            return super().summary(*args, **kwargs)
        show_again(self.network)
        if isinstance(self.network, keras.Sequential):
            return super().summary(*args, **kwargs)
        # Keras shows what is connected to what for Functional models alone.
        shown = keras.Model(self.input, self.output, name=self.name)
        known = {id(weight) for weight in shown.weights}
        shown.beside = [w for w in self.weights if id(w) not in known]
        if self.compiled:
            shown.compile(self.optimizer)
        return shown.summary(*args, **kwargs)

    # --- export ------------------------------------------------------------

    def export(
        self,
        filepath: str | PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.export`, and a step with its state in and out.

        The SavedModel has three functions, which are signatures as well:

            serve(inputs) -> outputs
            step(inputs, state) -> {"outputs": outputs, **state}
            initial_state(inputs) -> state

        `serve` is Keras' and "serving_default": whole sequences, from the
        initial state, also where the model is stateful. `step` is one step of
        sequences that come as time goes, whose state the client keeps: see
        `export_steps`, which writes it for more steps at a time; here `inputs`
        of it are (batch, 1, ...). Nothing of this package is needed to load
        it. Other formats have `serve` alone, and so has a model with a head
        that reads all steps. ONNX is made of Keras' own layers, and not with
        `learn_initial_state=True`.

        Args:
            filepath: As for `keras.Model.export`.
            format: As for `keras.Model.export`.
            verbose: As for `keras.Model.export`.
            input_signature: As for `keras.Model.export`, of `serve`. Default:
                inputs of the network as it declares them; those that a
                subclass was first called on, with any number of rows.
            **kwargs: As for `keras.Model.export`.

        Raises:
            ValueError: A subclass has not been called yet, the model cannot
                be cut in time, or not be written in this format.

        Example:

        >>> import tempfile
        >>> network = keras.Sequential([
        ...     keras.Input((None, 3)), keras.layers.GRU(2)])
        >>> model = ksg.SequenceModel.from_model(network)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.export(folder, verbose=False)
        ...     served = tf.saved_model.load(folder)
        >>> sorted(served.signatures)
        ['initial_state', 'serve', 'serving_default', 'step']
        """
        if input_signature is None:
            input_signature = [export.inputs_of(self)]
        if format == "tf_saved_model":
            return export.write_whole(
                self, filepath, input_signature, verbose, **kwargs
            )
        given = filepath, format, verbose, input_signature
        source = export.plain(self) if format == "onnx" else self
        if source is not self:
            return source.export(*given, **kwargs)
        return super().export(*given, **kwargs)

    def export_steps(
        self,
        filepath: str | PathLike,
        steps: int | None = None,
        verbose: bool | None = None,
    ) -> None:
        """Exports a SavedModel that takes the state in and gives it out.

        For serving a sequence as it comes, one step or more at a time, where
        the client keeps the state. Not for whole sequences: `export`, which
        writes both where one step at a time is what you need. The SavedModel
        has two functions, which are signatures as well, `step` the default:

            step(inputs, state) -> {"outputs": outputs, **state}
            initial_state(inputs) -> state

        `inputs` are some steps of the sequences, nested as the model takes
        them, (batch, steps, ...) with any number of rows. `state` is a dict of
        tensors (batch, ...), "state_0" and so on, of the same names in and
        out: of the network's recurrent layers in their order, for an LSTM h,
        then c; of a subclass its `initial_state`, flattened. Several outputs
        are "outputs_0" and so on, flattened as `keras.tree.flatten` does. Of
        the inputs `initial_state` reads no more than the number of rows,
        unless the model computes its state from one of them. A row begins a
        new sequence by the values of `initial_state`.

        Args:
            filepath: The folder to write.
            steps: Number of steps of a call; None for any, which a subclass
                that loops over its steps in Python cannot do. With 1 there is
                no loop: the least time a step, and what converters to other
                formats can take.
            verbose: As for `keras.Model.export`.

        Raises:
            ValueError: `steps` is no positive integer, a subclass has not been
                called yet or does not run on any number of steps, or the model
                cannot be cut in time.

        Example:

        >>> import tempfile
        >>> network = keras.Sequential([
        ...     keras.Input((None, 3)), keras.layers.GRU(2)])
        >>> model = ksg.SequenceModel.from_model(network)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.export_steps(folder, verbose=False)
        ...     served = tf.saved_model.load(folder)
        >>> x = tf.random.normal((1, 4, 3))
        >>> state = served.initial_state(x)
        >>> for step in range(4):
        ...     state = served.step(x[:, step : step + 1], state)
        ...     outputs = state.pop("outputs")
        >>> bool(np.allclose(outputs, model(x), atol=1e-6))
        True
        """
        export.write_steps(self, filepath, steps, verbose)


# Under this name Keras finds what it tracks itself, and saves it as "layers/",
# the name of the class behind it, as it did when `layers` was that.
setattr(Handles, "layers/", keras.Model.layers)
