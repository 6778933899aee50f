"""Writes diagnostics where TensorBoard finds them."""

import re

import numpy as np
import tensorflow as tf

from keras_seqgrad._installed import require

INSTALL = 'pip install "keras-seqgrad[tensorboard]"'
# Measures by the name they have in `GradientQuality`: tag, and title.
MEASURES = {
    "cosine": ("gradient_cosine", "cosine with the exact gradient"),
    "relative_bias": ("gradient_bias", "relative bias"),
    "relative_variance": ("gradient_variance", "relative variance"),
    "bias_share": ("gradient_bias_share", "share of the error that is bias"),
    "norm_ratio": ("gradient_norm_ratio", "norm ratio to the exact gradient"),
    "exact_norm": ("exact_norm", "norm of the exact gradient"),
}


def measured(quality):
    """By tag what is shown of the whole gradient's `GradientQuality`."""
    lower, upper = quality.bias_range
    return {
        **{tag: getattr(quality, key) for key, (tag, _) in MEASURES.items()},
        "gradient_bias_lower": lower,
        "gradient_bias_upper": upper,
    }


def plain(name):
    """A method's name as part of a tag.

    TensorBoard's page of custom scalars draws no line of a tag that holds
    brackets: TruncatedBPTT(length=3) becomes TruncatedBPTT_length=3.
    """
    return re.sub(r"[^\w.=-]+", "_", name).strip("_")


class Board:
    """One folder of TensorBoard's.

    Args:
        log_dir: The folder.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, log_dir):
        require("tensorboard", INSTALL)
        self.writer = tf.summary.create_file_writer(str(log_dir))

    def close(self):
        self.writer.close()

    def scalars(self, values, step):
        with self.writer.as_default(step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)

    def histograms(self, values, step):
        with self.writer.as_default(step):
            for tag, numbers in values.items():
                numbers = np.asarray(numbers, "float64")
                tf.summary.histogram(tag, numbers[np.isfinite(numbers)])

    def picture(self, tag, content, step):
        """A PNG file's bytes as an image."""
        image = tf.image.decode_png(content, channels=3)[None]
        with self.writer.as_default(step):
            tf.summary.image(tag, image)

    def comparison(self, found, step):
        """A `GradientComparison`, by method, and by group beside it."""
        scalars, histograms = {}, {}
        for key, groups in found.qualities.items():
            method = plain(key)
            for group, quality in groups.items():
                if group == "all":
                    for tag, value in measured(quality).items():
                        scalars[f"{tag}/{method}"] = value
                    continue
                for measure in ("cosine", "relative_bias"):
                    tag = f"{MEASURES[measure][0]}_by_group/{method}"
                    value = getattr(quality, measure)
                    scalars[f"{tag}/{plain(group)}"] = value
            scalars[f"estimate_seconds/{method}"] = found.seconds[key]
            histograms[f"gradient_errors/{method}"] = found.errors[key]
        self.scalars(scalars, step)
        self.histograms(histograms, step)

    def text(self, tag, markdown):
        with self.writer.as_default(0):
            tf.summary.text(tag, markdown)

    def hyperparameters(self, values):
        """Plain values by name, for the page HPARAMS."""
        api = require("tensorboard.plugins.hparams.api", INSTALL)
        with self.writer.as_default(0):
            api.hparams(values)

    def layout(self, methods):
        """The charts of the page CUSTOM SCALARS."""
        page = require("tensorboard.plugins.custom_scalar.layout_pb2", INSTALL)
        plugin = require("tensorboard.plugins.custom_scalar.summary", INSTALL)

        def lines(title, *patterns):
            content = page.MultilineChartContent(tag=patterns)
            return page.Chart(title=title, multiline=content)

        methods = [plain(method) for method in methods]
        charts = [lines(title, f"{tag}/.*") for tag, title in MEASURES.values()]
        series = [
            page.MarginChartContent.Series(
                value=f"gradient_bias/{method}",
                lower=f"gradient_bias_lower/{method}",
                upper=f"gradient_bias_upper/{method}",
            )
            for method in methods
        ]
        content = page.MarginChartContent(series=series)
        margins = [
            page.Chart(title="bias with its standard error", margin=content)
        ]
        groups = [
            lines(
                f"cosine of {method}",
                rf"gradient_cosine_by_group/{re.escape(method)}/.*",
            )
            for method in methods
        ]
        own = [
            lines("metrics of the method", "method/.*"),
            lines("guesses of the synthesiser", "synthesizer/.*"),
            lines("length between cuts", "cuts/mean_length"),
            lines("FPTT: distance from the average", "fptt/.*"),
        ]
        cost = [
            lines("seconds an estimate", "estimate_seconds/.*"),
            lines("share of the time of training", "diagnostics/share.*"),
            lines("seconds a measurement", "diagnostics/seconds"),
        ]
        categories = [
            page.Category(title=title, chart=chart)
            for title, chart in (
                ("Gradient beside exact BPTT", charts),
                ("Bias of each run", margins),
                ("By layer", groups),
                ("The method itself", own),
                ("Cost of the diagnostics", cost),
            )
        ]
        summary = plugin.pb(page.Layout(category=categories))
        with self.writer.as_default(0):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())
