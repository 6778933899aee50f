"""Layers that a SequenceModel refuses, or may, put into drawn networks."""

import dataclasses

# What may become of a tensor X (batch, time, F) that has T steps.
TIMED = [
    "L.Bidirectional(L.LSTM(2, return_sequences=True))(X)",
    "L.GRU(2, return_sequences=True, go_backwards=True)(X)",
    "ksg.layers.LSTM(2, return_sequences=True, go_backwards=True)(X)",
    "L.SimpleRNN(2, return_sequences=True, unroll=True)(X)",
    "L.LSTM(2, return_sequences=True, zero_output_for_mask=True)(X)",
    "ksg.layers.GRU(2, return_sequences=True, truncation=2)(X)",
    "L.RNN([L.GRUCell(2)], return_sequences=True)(X)",
    "L.Attention()([X, X])",
    "L.MultiHeadAttention(1, 2)(X, X)",
    "L.MultiHeadAttention(1, 2)(X, X, use_causal_mask=True)",
    "L.Conv1D(2, 3, padding='causal')(X)",
    "L.Conv1D(2, 3, padding='same')(X)",
    "L.Conv1D(2, 1)(X)",
    "L.SeparableConv1D(2, 2, padding='causal')(X)",
    "L.MaxPooling1D(2, strides=1, padding='same')(X)",
    "L.BatchNormalization()(X)",
    "L.LayerNormalization(axis=[1, 2])(X)",
    "L.GroupNormalization(1)(X)",
    "L.UnitNormalization(axis=1)(X)",
    "L.UnitNormalization()(X)",
    "L.SpatialDropout1D(0.0)(X)",
    "L.RepeatVector(T)(L.GRU(2)(X))",
    "L.Reshape((T, F))(L.Flatten()(X))",
    "L.Permute((2, 1))(L.Permute((2, 1))(X))",
    "L.Lambda(lambda x: keras.ops.cumsum(x, axis=1))(X)",
    "keras.ops.flip(X, axis=1)",
    "keras.ops.cumsum(X, axis=1)",
    "keras.ops.roll(X, 1, axis=1)",
    "keras.ops.softmax(X, axis=1)",
    "X - keras.ops.mean(X, axis=1, keepdims=True)",
    "X * keras.ops.max(X)",
    "X[:, ::-1]",
    "X[..., :1]",
    "keras.ops.tanh(X) * 2.0",
    "keras.ops.stop_gradient(X)",
    "keras.ops.pad(X, [[0, 0], [1, 0], [0, 0]])[:, :-1]",
    "keras.ops.concatenate([keras.ops.zeros_like(X[:, :1]), X[:, :-1]], 1)",
    "L.Concatenate(axis=1)([X[:, :1], X[:, 1:]])",
    "L.Dot(axes=(2, 1))([L.Dot(axes=(2, 2))([X, X]), X])",
    "L.ZeroPadding1D((1, 0))(X)[:, :-1]",
    "L.Cropping1D((1, 0))(L.ZeroPadding1D((1, 0))(X))",
    "L.TimeDistributed(L.Reshape((F,)))(X)",
    "L.Masking(0.5)(X)",
    "L.ActivityRegularization(l2=0.01)(X)",
    "L.GaussianNoise(0.0)(X)",
    "L.Activation('relu')(X)",
    "L.LSTM(2, return_sequences=True)(X, initial_state=L.LSTM(2, "
    "return_state=True)(X)[1:])",
    "L.GRU(2, return_sequences=True)(X, initial_state=L.GRU(2)(X))",
    "L.Add()([X, L.Reshape((1, F))(L.GRU(F)(X))])",
    "L.Add()([X, L.Reshape((1, F))(L.GlobalAveragePooling1D()(X))])",
    "L.Softmax()(X)",
    "L.Softmax(axis=1)(X)",
    "L.PReLU(shared_axes=[1])(X)",
    "L.PReLU()(X)",
    "L.ConvLSTM1D(2, 1, return_sequences=True)(X[..., None])[..., 0]",
    "L.Bidirectional(L.GRU(2), merge_mode='sum')(X)[:, None] + X[..., :1]",
    "keras.Sequential([L.LSTM(2, return_sequences=True), L.Dense(2)])(X)",
    "L.TimeDistributed(L.LSTM(2))(X[..., None])",
    "keras.Sequential([L.Dense(2), L.Dense(3)])(X)",
]


def with_wild(source, network):
    """A network with one wild layer behind a drawn tensor with time."""
    lines = list(network.lines)
    # Behind a line that is no input and no readout, in front of a readout.
    place = source.choice(
        [
            number
            for number, line in enumerate(lines)
            if line.startswith("out") and "(v" in line
        ]
    )
    name, made = lines[place].split(" = ", 1)
    read = made.rsplit("(", 1)[1].rstrip(")")
    layer = source.choice(TIMED).replace("X", read)
    layer = layer.replace("T)", f"{network.steps})")
    layer = layer.replace("(T,", f"({network.steps},")
    layer = layer.replace("F)", f"{read}.shape[-1])")
    layer = layer.replace("F,)", f"{read}.shape[-1],)")
    lines[place] = f"{name} = {made.rsplit('(', 1)[0]}({name}w)"
    lines.insert(place, f"{name}w = {layer}")
    return dataclasses.replace(network, lines=lines)
