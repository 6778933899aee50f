"""Draws functional networks, as the Python that makes them."""

import dataclasses

from tests.random_models.drawing import Input, Output, Tensor
from tests.random_models.structures import read_at, written_as
from tests.random_models.tables import (
    ACTIVATIONS,
    CONSTRAINTS,
    GATES,
    LINEAR,
    PENALTIES,
    PLACES,
    STATES,
    TASKS,
)


@dataclasses.dataclass
class Limits:
    """What a comparison lets a network have."""

    masks: bool = True
    last: bool = True  # outputs without a time axis
    tokens: bool = True
    penalties: bool = True
    added: bool = True  # activity regularisers
    starts: bool = True  # initial states from another layer
    stacks: bool = True  # several cells in one layer
    nests: bool = True  # models inside of models
    joins: bool = True  # rows and steps, which are normed together
    layers: int = 3  # recurrent ones at most
    dropout: float = 0.0  # rate of dropout layers and of recurrent layers
    kinds: tuple = (*STATES, *STATES, "RNN", "RNN", *LINEAR)


@dataclasses.dataclass
class Network:
    """A drawn network: how to make it, what it takes and gives."""

    lines: list
    inputs: list
    outputs: list
    structures: tuple  # of inputs and outputs: "single", "list" or "dict"
    steps: int
    embedded: bool


def draw(source, limits):
    """A `Network`; its last line names it `network`."""
    return Drawing(source, limits).network()


class Drawing:
    """One network on its way: the tensors that there are so far."""

    def __init__(self, source, limits):
        self.source, self.limits = source, limits
        self.inputs, self.timed, self.static = [], [], []
        self.steps = source.integer(3, 8)
        self.length = source.choice([None, None, self.steps])

    def network(self):
        source = self.source
        for place in range(source.choice([1, 1, 1, 2, 2, 3])):
            self.add_input(f"in{place}", first=place == 0)
        tensor = self.timed[0]
        for other in self.timed[1:]:
            if source.chance(0.7):
                tensor = self.joined(tensor, other)
        last = self.limits.last and source.chance(0.35)
        layers = min(source.choice([1, 1, 2, 2, 3]), self.limits.layers)
        for place in range(layers):
            tensor = self.between(tensor)
            ends = last and place == layers - 1
            pools = ends and source.chance(0.3)
            below = tensor
            tensor = self.recurrent(tensor, ends and not pools)
            if pools:
                tensor = self.pooled(tensor)
            same = below.features == tensor.features and tensor.timed
            if same and source.chance(0.5):
                tensor = self.joined(below, tensor, "Add")
            elif tensor.timed and source.chance(0.2):
                tensor = self.joined(below, tensor)
            if tensor.timed and self.limits.nests and source.chance(0.15):
                tensor = self.nested(tensor)
        if tensor.timed:
            tensor = self.between(tensor)
        return self.ended(self.heads(tensor))

    def pooled(self, tensor):
        """The mean, the largest or the last of all steps."""
        name = tensor.name
        made = [f"L.GlobalAveragePooling1D()({name})", f"{name}[:, -1]"]
        made += [
            f"keras.ops.{kind}({name}, axis=1)"
            for kind in ("mean", "max", "sum")
        ]
        if not tensor.masked:
            made.append(f"L.GlobalMaxPooling1D()({name})")
        made = self.source.add(self.source.choice(made))
        return Tensor(made, tensor.features, False)

    def add_input(self, name, first):
        source = self.source
        kinds = ["numbers", "numbers"]
        kinds += ["padded", "tokens"] if self.limits.masks else []
        kinds += ["tokens"] if self.limits.tokens else []
        kinds += [] if first else ["static"]
        kind = source.choice(kinds)
        features = source.integer(1, 3)
        self.inputs.append(Input(name, kind, features))
        if kind == "static":
            made = f"keras.Input(({features},), name='{name}')"
            self.static.append(Tensor(source.add(made, name), features, False))
            return
        shape = (self.length,) if kind == "tokens" else (self.length, features)
        dtype = ", dtype='int32'" if kind == "tokens" else ""
        source.add(f"keras.Input({shape}{dtype}, name='{name}')", name)
        masked = False
        tensor = name
        if kind == "tokens":
            masked = self.limits.masks and source.chance(0.5)
            zero = ", mask_zero=True" if masked else ""
            made = self.held(f"L.Embedding(5, {features}{zero})")
            tensor = source.add(f"{made}({name})")
        elif kind == "padded":
            masked = True
            tensor = source.add(f"{self.held('L.Masking()')}({name})")
        self.timed.append(Tensor(tensor, features, masked=masked))

    def held(self, layer):
        """A layer, or one of the user's own that holds it."""
        return f"Inside({layer})" if self.source.chance(0.2) else layer

    def joined(self, first, second, by="Concatenate"):
        made = self.source.add(f"L.{by}()([{first.name}, {second.name}])")
        features = first.features
        features += second.features if by == "Concatenate" else 0
        return Tensor(made, features, masked=first.masked or second.masked)

    def between(self, tensor):
        """Perhaps a layer that acts on each step alone."""
        source, features = self.source, tensor.features
        drawn = source.choice(
            [None, None, None, "dense", "norm", "dropout", "each", "wide"]
            + ["batch"] * self.limits.joins
        )
        if drawn == "wide" and not (self.static and features > 1):
            return tensor
        if drawn is None:
            return tensor
        if drawn == "dense":
            features = source.integer(1, 4)
            penalty = self.penalties(["kernel", "bias"])
            made = f"L.Dense({features}, 'tanh'{penalty})"
        elif drawn == "each":
            features = source.integer(1, 4)
            made = f"L.TimeDistributed(L.Dense({features}))"
        elif drawn == "wide":
            wide = f"L.Dense({features})({self.static[0].name})"
            again = [f"L.Reshape((1, {features}))({wide})"]
            if self.length:
                again.append(f"L.RepeatVector({self.length})({wide})")
                step = f"keras.ops.repeat({wide}[:, None], {self.length}"
                again.append(f"{step}, axis=1)")
            wide = source.add(source.choice(again))
            # Keras takes the (rows, 1, 1) of one feature for a bias where a
            # sequence has as many steps, or features, as there are rows.
            made = source.add(f"L.Add()([{tensor.name}, {wide}])")
            return dataclasses.replace(tensor, name=made)
        else:
            made = {
                "norm": "L.LayerNormalization()",
                "batch": "L.BatchNormalization(momentum=0.8)",
                "dropout": f"L.Dropout({self.limits.dropout})",
            }[drawn]
        made = source.add(f"{made}({tensor.name})")
        return dataclasses.replace(tensor, name=made, features=features)

    def nested(self, tensor):
        """A model inside of the model, perhaps called twice."""
        source, features = self.source, tensor.features
        kind = source.choice(list(STATES))
        made = f"keras.Sequential([keras.Input((None, {features})), "
        made += f"L.{kind}({features}, return_sequences=True), "
        made = source.add(f"{made}L.Dense({features})])")
        name = source.add(f"{made}({tensor.name})")
        if source.chance(0.3):
            name = source.add(f"{made}({name})")
        return dataclasses.replace(tensor, name=name)

    def penalties(self, places):
        if not self.limits.penalties:
            return ""
        table = {f"{p}_regularizer": (0.08, PENALTIES) for p in places}
        table |= {f"{p}_constraint": (0.08, CONSTRAINTS) for p in places}
        if self.limits.added:
            table["activity_regularizer"] = (0.1, PENALTIES)
        return self.source.options(table)

    def cell_options(self, kind):
        table = {
            "activation": (0.3, [repr(a) for a in ACTIVATIONS]),
            "use_bias": (0.15, ["False"]),
        }
        if kind != "SimpleRNN":
            gates = [repr(gate) for gate in GATES]
            table["recurrent_activation"] = (0.2, gates)
        if kind == "GRU":
            table["reset_after"] = (0.4, ["False"])
        if kind == "LSTM":
            table["unit_forget_bias"] = (0.2, ["False"])
        return self.source.options(table)

    def cell(self, units):
        source = self.source
        kind = source.choice([*STATES, *STATES, "own", "linear"])
        if kind == "own":
            return f"PlainCell({units})"
        if kind == "linear":
            name = source.choice(["MinGRU", "MinLSTM"])
            return f"ksg.layers.{name}Cell({units})"
        return f"L.{kind}Cell({units}{self.cell_options(kind)})"

    def recurrent(self, tensor, ends):
        """A recurrent layer; its output, or that of its last step."""
        source, units = self.source, self.source.choice([2, 2, 3, 4])
        kind = source.choice(self.limits.kinds)
        more = "" if ends else ", return_sequences=True"
        if tensor.masked and not ends and source.chance(0.15):
            more += ", zero_output_for_mask=True"
        elif self.length and source.chance(0.1) and kind in STATES:
            more += ", unroll=True"
        if kind in LINEAR:
            options = source.options(LINEAR[kind])
            if kind == "CausalConv1D" and ends:
                more = ", return_sequences=False"
            if kind == "RGLRU":
                units = 2 * (units // 2)
                if tensor.features != units:
                    made = source.add(f"L.Dense({units})({tensor.name})")
                    tensor = dataclasses.replace(tensor, name=made)
            made = f"ksg.layers.{kind}({units}{options}{more})"
            if "output_size" in options:
                units = 2
            elif kind == "LRU":
                units = tensor.features
        elif kind == "RNN":
            made, units = self.around_cells(units, more)
        else:
            home = source.choice(["L", "L", "ksg.layers"])
            if home != "L":  # its scan does not unroll
                more = more.removesuffix(", unroll=True")
            more += self.penalties(PLACES)
            options = self.cell_options(kind)
            if self.limits.dropout:
                rate = [str(self.limits.dropout)]
                names = ("dropout", "recurrent_dropout")
                more += source.options({n: (0.3, rate) for n in names})
            made = f"{home}.{kind}({units}{options}{more}"
            return self.with_states(kind, made, units, tensor, ends)
        return self.called(made, tensor, units, ends)

    def around_cells(self, units, more):
        source = self.source
        home = source.choice(["L", "ksg.layers"])
        cells = [self.cell(units)]
        # Never a stack of one, whose mask Keras loses.
        if self.limits.stacks and source.chance(0.5):
            cells.insert(0, self.cell(source.integer(1, 3)))
        made = cells[0]
        if len(cells) > 1:
            made = f"[{', '.join(cells)}]"
            if source.chance(0.5):
                made = f"L.StackedRNNCells({made})"
        return f"{home}.RNN({made}{more})", units

    def with_states(self, kind, made, units, tensor, ends):
        """Perhaps from a given state, perhaps with the state after it."""
        source, start = self.source, ""
        if self.static and self.limits.starts and source.chance(0.5):
            state = f"L.Dense({units})({self.static[0].name})"
            states = ", ".join([state] * STATES[kind])
            start = f", initial_state=[{states}]"
        if self.limits.last and source.chance(0.15):
            states = [f"{made_state}" for made_state in ("h", "c")]
            states = states[: STATES[kind]]
            line = f"{made}, return_state=True)({tensor.name}{start})"
            name = f"v{len(source.lines)}"
            states = [f"{name}{state}" for state in states]
            source.add(line, ", ".join([name, *states]))
            self.static_out = Tensor(states[-1], units, False)
            return Tensor(name, units, not ends, tensor.masked and not ends)
        return self.called(f"{made})", tensor, units, ends, start)

    def called(self, made, tensor, units, ends, start=""):
        name = self.source.add(f"{made}({tensor.name}{start})")
        return Tensor(name, units, not ends, tensor.masked and not ends)

    def heads(self, tensor):
        """Readouts: of the last tensor, perhaps of a state or of another."""
        source, ends = self.source, [tensor]
        if hasattr(self, "static_out") and source.chance(0.8):
            ends.append(self.static_out)
        if source.chance(0.25):
            ends.append(tensor)
        outputs = []
        for place, tensor in enumerate(ends):
            task = source.choice(list(TASKS))
            features = source.integer(1, 3) + ("sparse" in task)
            if task == "categorical":
                features += 1
            name, end = f"out{place}", TASKS[task]
            end = f", {end!r}" if end else ""
            read, places = read_at(source, tensor)
            source.add(f"L.Dense({features}{end}, name='{name}')({read})", name)
            outputs.append(Output(name, task, features, tensor.timed, places))
        return outputs

    def ended(self, outputs):
        source, structures = self.source, []
        for several in self.inputs, outputs:
            kinds = ["list", "dict"]
            kinds += ["single", "single"] if len(several) == 1 else []
            structures.append(source.choice(kinds))
        written = [
            written_as(structure, [each.name for each in several])
            for structure, several in zip(
                structures, (self.inputs, outputs), strict=True
            )
        ]
        source.add(f"keras.Model({', '.join(written)})", "network")
        return Network(
            list(source.lines),
            self.inputs,
            outputs,
            tuple(structures),
            self.steps,
            any(each.kind == "tokens" for each in self.inputs),
        )
