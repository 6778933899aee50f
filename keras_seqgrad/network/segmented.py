"""A model as a function of a segment: what methods run and differentiate."""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.network import export, norming, opaque
from keras_seqgrad.network.described import Described
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.network.tracing import looked_into
from keras_seqgrad.tensors import arguments, logits, masks, nested


class SegmentedModel(Described):
    """Abstract base of `SequenceModel`: the forward half, without training.

    Args:
        network: A Sequential or Functional model, or None for a subclass with
            `initial_state` and `call_segment` of its own.
        learn_initial_state: Whether sequences start from a weight.
    """

    def __init__(self, network, learn_initial_state, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.learn_initial_state = arguments.flag(
            learn_initial_state, "learn_initial_state"
        )
        self.initial_state_weights = []
        self._graph = None
        self._opaque_outputs = None
        self._targets_alone, self._losses_apart = False, frozenset()
        if network is not None:
            self.built = True
        elif not self.is_opaque:
            raise ValueError(
                "A SequenceModel needs inputs and outputs, a network, or a "
                "subclass that defines `initial_state` and `call_segment`. "
                "Received none of them."
            )
        if learn_initial_state:
            self._add_initial_state_weights()

    def _add_initial_state_weights(self):
        if self.is_opaque or self.graph.sets_start:
            raise ValueError(
                "learn_initial_state=True needs layers that start from zeros. "
                "Received a model that says itself where sequences start; "
                "make that state depend on a weight instead."
            )
        for key, state in self.graph.zero_state(1).items():
            learned = self.graph.nodes[key].learned(state)
            for position, leaf in enumerate(learned):
                self.initial_state_weights.append(
                    self.add_weight(
                        shape=leaf.shape[1:],
                        initializer="zeros",
                        name=f"{key}_initial_state_{position}",
                    )
                )

    # --- the two functions of a sequence model -----------------------------

    def initial_state(self, batch_size: Any) -> Any:
        """State before the first step of a sequence.

        Override it together with `call_segment`. A state that depends on
        weights of the model is learned.

        Args:
            batch_size: Number of rows, an integer or a scalar tensor.

        Returns:
            Nested tensors (batch, ...).

        Raises:
            ValueError: The network computes the state from one of its inputs.
        """
        if self.graph.takes_initial_state:
            raise ValueError(
                f"The network of {self.name!r} computes where a sequence "
                "starts from one of its inputs. Expected these inputs, "
                f"received batch_size={batch_size} alone. Write "
                "`model.start_state(inputs, batch_size)`."
            )
        start = self.graph.initial_state(None, batch_size)
        weights = iter(map(tf.convert_to_tensor, self.initial_state_weights))
        for key in start if self.initial_state_weights else ():
            start[key] = self.graph.nodes[key].moved(start[key], weights)
        return start

    def call_segment(
        self, inputs: Any, state: Any, training: bool = False
    ) -> tuple[Any, Any]:
        """Runs some consecutive steps of a sequence.

        To go through a sequence as it comes, or to write one, hand the state
        on from call to call; in a `tf.function` it takes a tenth of the time.

        Args:
            inputs: Nested tensors (batch, segment, ...).
            state: State before the first step, as `initial_state` gives it.
            training: Whether to run in training mode.

        Returns:
            (outputs (batch, segment, ...), state after the last step).

        Raises:
            ValueError: `inputs` has a mask or resets beside it.

        Example:

        >>> network = keras.Sequential([
        ...     keras.Input((None, 3)),
        ...     keras.layers.GRU(2, return_sequences=True),
        ... ])
        >>> model = ksg.SequenceModel.from_model(network)
        >>> x, state = tf.random.normal((1, 4, 3)), model.initial_state(1)
        >>> for step in range(4):
        ...     y, state = model.call_segment(x[:, step : step + 1], state)
        >>> bool(np.allclose(y[:, 0], model(x)[:, -1], atol=1e-6))
        True
        """
        _, *beside = masks.split(self.arranged(inputs))
        if any(each is not None for each in beside):
            raise ValueError(
                "`call_segment` takes the inputs alone. Received a dict with "
                f"{sorted(inputs)}. Where rows reset or are padded, one step "
                "after another, write `predict_on_batch` of a model with "
                "stateful=True, which carries the state itself."
            )
        self.refuse_whole(
            "`call_segment` gives the outputs of a segment.", "Write model(x)"
        )
        with Passage(state).open() as passage:
            outputs = self.graph.model(inputs, training=training)
        return outputs, passage.new_state

    def call(self, inputs, training=False):
        """Runs whole sequences from the initial state.

        Within a `Passage` a segment, and without the head.
        """
        passage = Passage.current()
        if passage is not None:
            return self._call_passage(inputs, passage, training)
        inputs = self.clear_masked(self.arranged(inputs))
        inputs, reset, mask = masks.unpack(inputs)
        if reset is not None or mask is not None:
            self.describe(inputs)
        self.refuse_companions(reset, mask)
        export.remember(self, inputs)
        batch_size, _ = self.extent(inputs)
        start = self.start_state(inputs, batch_size)
        with Passage(start, None, reset, start, mask).open() as passage:
            made = self._call_passage(inputs, passage, training)
        return self.whole_outputs(made, inputs, mask, training)

    def _call_passage(self, inputs, passage, training):
        if not self.is_opaque:
            if training and passage.mask is not None:
                norming.refuse_beside_mask(self)
            with logits.recorded(looked_into(self.graph.layers)):
                outputs = self.graph.model(inputs, training=training)
        elif passage.is_plain:
            with logits.recorded(looked_into(self.layers)):
                outputs, passage.new_state = self.call_segment(
                    inputs, passage.state, training=training
                )
        else:
            outputs = opaque.call_by_steps(self, inputs, passage, training)
        if passage.mask is None:
            return outputs
        return masks.mark(outputs, passage.mask, self.temporal_made)

    def whole_outputs(self, made, inputs, mask, training):
        """Outputs of whole windows, of what a pass over them has made.

        Args:
            made: Nested tensors: what the head takes, or the outputs.
            inputs: What it made them of.
            mask: Boolean (batch, time), or None.
            training: Whether layers run in training mode.
        """
        head = self.network_head
        if head is None:
            return made
        with logits.recorded(looked_into(head.layers)):
            outputs = head.run(
                keras.tree.flatten(made), keras.tree.flatten(inputs), training
            )
        if mask is None:
            return outputs
        return masks.mark(outputs, mask, self.temporal_outputs)

    def refuse_whole(self, what, instead, with_head=True):
        """Refuses what knows of segments alone, where layers do not.

        Args:
            what: What does not go together with them, a sentence.
            instead: What to do.
            with_head: Whether a head is one of them.
        """
        names = []
        if self.network_uncut is not None:
            names = [self.network_uncut.layer]
        elif self.network_head is not None and with_head:
            names = self.network_head.names
        if names:
            raise ValueError(
                f"{what} Expected a model that can be cut in time, received "
                f"one whose layers {names} need all steps of a sequence at "
                f"once. {instead}."
            )

    def refuse_segments(self):
        """Refuses to look at segments, where nothing can be cut."""
        self.refuse_whole(
            "This looks at segments of a window.",
            "What looks at whole windows are `evaluate`, `predict` and "
            "`estimate_gradients` by ksg.methods.BPTT()",
            with_head=False,
        )

    def refuse_companions(self, reset, mask):
        """Refuses what comes beside the inputs and layers would not know."""
        if reset is not None:
            self.refuse_whole(
                "A reset begins another sequence in the midst of a window, "
                "and what reads all steps would read both.",
                "Give each sequence a row of its own, padded and masked",
            )
        if mask is not None:
            self.refuse_whole(
                "A mask beside the inputs does not reach what is below the "
                "recurrent layers.",
                "Make it by Masking",
                with_head=False,
            )

    def run_segment(
        self, inputs, state, training, fresh=None, gates=None, reset=None,
        mask=None, scan=None, kernels=False,
    ):  # fmt: skip
        """Runs a segment under everything that may accompany it.

        Args:
            inputs: Nested tensors (batch, segment, ...).
            state: State before the first step.
            training: Whether to run in training mode.
            fresh: Boolean (batch,) or scalar: rows that start from the initial
                state instead, through which gradient reaches its weights.
            gates: Backward gates (segment,) or (batch, segment).
            reset: Boolean (batch, segment).
            mask: Boolean (batch, segment).
            scan: What runs the recurrent layers' cells (see `Passage`).
            kernels: Whether cuDNN may run recurrent layers instead.

        Returns:
            (outputs, state after the last step).
        """
        start = None
        if self.sets_initial_state and not (fresh is None and reset is None):
            batch_size, _ = self.extent(inputs)
            start = self.start_state(inputs, batch_size)
        if start is not None and fresh is not None:
            state = nested.select(fresh, start, state)
        passage = Passage(state, gates, reset, start, mask, scan, kernels)
        with passage.open():
            outputs = self(inputs, training=training)
        return outputs, passage.new_state

    @property
    def losses(self):
        """What regularisers and layers add to the loss of the targets."""
        if self._targets_alone:
            return []
        apart = self._losses_apart
        return [each for each in super().losses if id(each) not in apart]

    @contextlib.contextmanager
    def targets_alone(self):
        """Leaves what regularisers and layers add out of the loss."""
        self._targets_alone = True
        try:
            yield
        finally:
            self._targets_alone = False

    @contextlib.contextmanager
    def losses_apart(self, losses):
        """Leaves what some layers have added out of the loss."""
        # Replicas take turns in here, each with losses of its own.
        apart = frozenset(map(id, losses))
        self._losses_apart |= apart
        try:
            yield
        finally:
            self._losses_apart -= apart

    def state_spec(self):
        """(shape without batch, dtype) of each of `nested.leaves`."""
        if self.is_opaque:
            state = self.initial_state(1)
        else:
            state = self.graph.zero_state(1)
        return [
            (tuple(leaf.shape[1:]), leaf.dtype.name)
            for leaf in nested.leaves(state)
        ]

    def start_state(self, inputs, batch_size):
        """State before the first step of sequences with these inputs."""
        if self.is_opaque or self.initial_state_weights:
            return self.initial_state(batch_size)
        return self.graph.initial_state(inputs, batch_size)

    # --- what the model is -------------------------------------------------

    @property
    def is_opaque(self):
        """Whether `call_segment` is the user's own."""
        return type(self).call_segment is not SegmentedModel.call_segment

    @property
    def sets_initial_state(self):
        """Whether sequences may start elsewhere than at zeros."""
        if self.is_opaque or self.initial_state_weights:
            return True
        # A cell of the user's own may say where it starts.
        nodes = self.graph.nodes.values()
        return self.graph.sets_start or any(
            node.carries_output for node in nodes
        )

    @property
    def running_variables(self):
        """Variables that change while layers run: seeds of dropout."""
        kept = {id(v) for v in self.weights}
        return [v for v in self.non_trainable_variables if id(v) not in kept]
