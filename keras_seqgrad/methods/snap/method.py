"""SnAp-1: back-propagation in segments, traces over their borders."""

from keras_seqgrad.methods.base import serializable
from keras_seqgrad.methods.online import Kept, OnlineMethod
from keras_seqgrad.methods.snap import cells, memory
from keras_seqgrad.methods.snap.traces import advance
from keras_seqgrad.methods.snap.visits import Recorder
from keras_seqgrad.tensors import arguments


@serializable
class SnAp(OnlineMethod):
    """Traces over segments (SnAp-1): nearly exact, an update a segment.

    Back-propagation inside segments of `length` steps, down to 1, and one
    trace for each weight and row that says how that weight has moved the
    state of its own unit so far. So credit reaches back over all borders, as
    far as the cell remembers, in memory that does not grow with the sequence.
    Use it on endless streams, and where what matters lies further back than
    the segments that fit. Not the choice where `TruncatedBPTT` of equal
    memory sees far enough: that is some 0.6 (units + features) steps for a
    GRU, and takes less time (two thirds in a model with a readout).

    Rule, with h_i the states of unit i, w one of its weights, D and I the
    derivatives of a step by them, and d the gradient of a segment's loss by
    the state at its start:

        J[w] = D_i J[w] + I[w]
        gradient of w = dl/dw + sum over rows of d_i . J[w]

    The influence of a weight on its own unit is followed through that unit
    alone; what has come back to it by way of other units is left out.
    `self_recurrence=False` leaves out the unit's own recurrent weights, too,
    which is e-prop.

    With stateful=True the traces are carried from window to window; they are
    0 for rows that begin or are reset, and pass masked steps unchanged.
    Without it they are 0 at every window's start. With one target per
    sequence there is one update, at the end, as for `TruncatedBPTT`.

    SimpleRNN, GRU (`reset_after=True`), LSTM, MinGRU, MinLSTM, LRU, RGLRU,
    QRNN, and cells of your own with a method `trace_rule` (see
    docs/methods/snap.md). Weights below a recurrent
    layer, those of lower recurrent layers too, miss what has passed the
    layers above it before the segment; a learned initial state learns from
    the first segment alone.

    Gradient: biased; exact for one recurrent layer fed by inputs, whose units
    do not feed each other (MinGRU and the other linear recurrences, or a
    diagonal recurrent kernel). Memory: O(length)
    activations, and for each row one number for every weight of the recurrent
    layers, two for an LSTM or LRU. Time: that of `TruncatedBPTT`, and one
    product for each row and segment.

    Args:
        length: Steps of a segment; the last one of a window may be shorter.
        self_recurrence: Whether a unit's influence on its own gates counts.

    Raises:
        ValueError: `length` is not a positive integer; on `compile`, a cell
            has no rule or recurrent dropout, a recurrent layer is called
            twice or shares weights, or the model is a subclass with its own
            `call_segment`.

    Reference:
        Menick et al., 2020. A practical sparse approximation for real time
        recurrent learning. arXiv:2006.07232. For e-prop Bellec et al., 2020.
        A solution to the learning dilemma for recurrent networks of spiking
        neurons.

    Example:

    >>> ksg.methods.SnAp(length=10, self_recurrence=False)
    SnAp(length=10, self_recurrence=False)
    """

    random = False

    def __init__(self, length: int, self_recurrence: bool = True) -> None:
        self.length = arguments.positive_integer(length, "length")
        self.self_recurrence = arguments.flag(
            self_recurrence, "self_recurrence"
        )

    def check(self, model):
        super().check(model)
        cells.refuse_model(model)
        for name, node in model.graph.nodes.items():
            cells.refuse(node.held[0].cell, name)
            cells.check_rule(node.held[0].cell, name, node.step_shape)

    def build(self, model):
        nodes, variables = model.graph.nodes, model.trainable_variables
        specs = [
            memory.specs_of(node.held[0].cell, node.step_shape, variables)
            for node in nodes.values()
        ]
        model.method_state.parts["influence"] = Kept(specs, model.stateful)

    def scan(self):
        return Recorder()

    def bring(self, window, influence, d_state):
        nodes = window.model.graph.nodes
        return memory.pull(nodes, influence, d_state, window.variables)

    def advance(self, run, influence):
        return [
            advance(run.scan.visit(layer), traces, self.self_recurrence)
            for layer, traces in zip(
                run.window.recurrent_layers, influence, strict=True
            )
        ]

    def get_config(self):
        return {
            "length": self.length,
            "self_recurrence": self.self_recurrence,
        }
