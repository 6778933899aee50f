"""One training step of a layer in PyTorch and in JAX, where they are installed.

As their users write it: PyTorch by its own layers, JAX by `jax.lax.scan` with
the inputs multiplied in one product before it, the whole step under `jax.jit`.
"""

import importlib.util

RATE = 0.01


def installed():
    """Step makers (kind, x, y) -> function, by the name of the package."""
    makers = {"PyTorch": ("torch", pytorch_step), "JAX": ("jax", jax_step)}
    return {
        name: maker
        for name, (module, maker) in makers.items()
        if importlib.util.find_spec(module) is not None
    }


def pytorch_step(kind, x, y, threads=None):
    """`threads`: how many, None for as many as PyTorch takes."""
    import torch

    threads = threads or torch.get_num_threads()

    layer = {
        "LSTM": torch.nn.LSTM,
        "GRU": torch.nn.GRU,
        "SimpleRNN": torch.nn.RNN,
    }[kind](x.shape[-1], y.shape[-1], batch_first=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.SGD(layer.parameters(), RATE)

    def step():
        torch.set_num_threads(threads)
        optimizer.zero_grad()
        loss = ((layer(x)[0] - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step(kind, x, y):
    import jax
    import jax.numpy as jnp

    units, blocks = y.shape[-1], {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]

    def lstm(state, row, recurrent):
        h, c = state
        i, f, g, o = jnp.split(row + h @ recurrent, 4, axis=-1)
        i, f, o = map(jax.nn.sigmoid, (i, f, o))
        c = f * c + i * jnp.tanh(g)
        h = o * jnp.tanh(c)
        return (h, c), h

    def gru(state, row, recurrent):
        (h,) = state
        z, r, n = jnp.split(row, 3, axis=-1)
        hz, hr, hn = jnp.split(h @ recurrent, 3, axis=-1)
        z, r = jax.nn.sigmoid(z + hz), jax.nn.sigmoid(r + hr)
        h = z * h + (1 - z) * jnp.tanh(n + r * hn)
        return (h,), h

    def simple_rnn(state, row, recurrent):
        h = jnp.tanh(row + state[0] @ recurrent)
        return (h,), h

    cell = {"LSTM": lstm, "GRU": gru, "SimpleRNN": simple_rnn}[kind]

    def loss_of(weights, x, y):
        kernel, recurrent, bias = weights
        rows = jnp.swapaxes(x, 0, 1) @ kernel + bias
        zeros = jnp.zeros((x.shape[0], units), x.dtype)
        state = (zeros, zeros) if kind == "LSTM" else (zeros,)
        _, outputs = jax.lax.scan(
            lambda state, row: cell(state, row, recurrent), state, rows
        )
        return jnp.mean((jnp.swapaxes(outputs, 0, 1) - y) ** 2)

    @jax.jit
    def update(weights, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
        moved = [w - RATE * g for w, g in zip(weights, gradients, strict=True)]
        return moved, loss

    keys = jax.random.split(jax.random.key(0), 2)
    shapes = (x.shape[-1], blocks * units), (units, blocks * units)
    weights = [
        jax.random.normal(key, shape) / shape[0] ** 0.5
        for key, shape in zip(keys, shapes, strict=True)
    ]
    weights.append(jnp.zeros(blocks * units))
    x, y = jnp.asarray(x), jnp.asarray(y)

    def step():
        nonlocal weights
        weights, loss = update(weights, x, y)
        return float(loss)

    return step
