"""Figures without a window: for files and for TensorBoard."""

import io

from keras_seqgrad._installed import require


def new_figure(rows, columns, size):
    """(figure, axes) that no screen is needed for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    require("matplotlib", 'pip install "keras-seqgrad[plots]"')
    from matplotlib.figure import Figure

    # Not through pyplot, which would keep it and may open a window.
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def png(figure):
    """The figure as the bytes of a PNG file."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=100)
    return written.getvalue()
