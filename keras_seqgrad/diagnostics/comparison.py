"""What a comparison of gradients found: as a table, as data, as a picture."""

import dataclasses
from os import PathLike
from typing import Any

import numpy as np

from keras_seqgrad._installed import require
from keras_seqgrad.diagnostics.pictures import new_figure
from keras_seqgrad.diagnostics.quality import GradientQuality

ALL = "all"
HEAD = (
    "method",
    "group",
    "cosine",
    "norm ratio",
    "rel. bias",
    "+ s.e.",
    "rel. variance",
    "bias share",
    "ms",
)
PLOTTED = (
    ("cosine", "cosine with the exact gradient"),
    ("relative_bias", "relative bias"),
    ("relative_variance", "relative variance"),
)


@dataclasses.dataclass
class GradientComparison:
    """Estimates of a gradient beside the gradient itself.

    What `compare_gradients` returns; not made by hand. Prints as a table.

    Args:
        qualities: Dict of dicts: by name of the method and of the group, a
            `GradientQuality`. The group "all" is the whole gradient.
        seconds: By name of the method, the median time of an estimate; the
            first one, which compiles, does not count.
        errors: By name of the method, the relative error of every single
            estimate of the whole gradient.
        exact_seconds: Time of the exact gradient, with its checkpoints.

    Example:

    >>> quality = ksg.diagnostics.GradientQuality(
    ...     2.0, 0.9, 1.1, 0.3, 0.05, 0.25, 0.25, 0.09, 0.03)
    >>> found = ksg.diagnostics.GradientComparison(
    ...     {"mine": {"all": quality}}, {"mine": 0.01}, {"mine": [0.6]}, 0.02)
    >>> found["mine"].cosine
    0.9
    >>> found.to_dict()["mine"]["groups"]["all"]["relative_bias"]
    0.3
    """

    qualities: dict
    seconds: dict
    errors: dict
    exact_seconds: float

    def __getitem__(self, method: str) -> GradientQuality:
        """`GradientQuality` of the whole gradient by a method."""
        return self.qualities[method][ALL]

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and numbers, fit for JSON."""
        return {
            method: {
                "seconds": self.seconds[method],
                "exact_seconds": self.exact_seconds,
                "repeats": len(self.errors[method]),
                "errors": [float(error) for error in self.errors[method]],
                "groups": {
                    group: dataclasses.asdict(quality)
                    for group, quality in groups.items()
                },
            }
            for method, groups in self.qualities.items()
        }

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row for each method and group.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas = require("pandas", "pip install pandas")
        rows = [
            {
                "method": method,
                "group": group,
                **dataclasses.asdict(quality),
                "seconds": self.seconds[method],
            }
            for method, groups in self.qualities.items()
            for group, quality in groups.items()
        ]
        return pandas.DataFrame(rows).set_index(["method", "group"])

    def plot(self, path: str | PathLike | None = None) -> Any:
        """Bars of cosine, bias and variance for each method and group.

        The bias is drawn with its standard error, and none where none was
        found.

        Args:
            path: File to write, or None.

        Returns:
            The matplotlib figure, drawn without a window.

        Raises:
            ImportError: matplotlib is not installed.
        """
        figure, axes = new_figure(1, len(PLOTTED), (12, 4))
        groups = list(next(iter(self.qualities.values())))
        if len(groups) == 2:
            groups.remove(ALL)  # a single group is the whole gradient
        width = 0.8 / len(groups)
        places = np.arange(len(self.qualities))
        for axis, (name, label) in zip(axes, PLOTTED, strict=True):
            for number, group in enumerate(groups):
                found = [each[group] for each in self.qualities.values()]
                error = None
                if name == "relative_bias":
                    ends = np.array([q.bias_range for q in found]).T
                    error = abs(ends - [q.relative_bias for q in found])
                axis.bar(
                    places + width * (number - (len(groups) - 1) / 2),
                    [getattr(quality, name) for quality in found],
                    width,
                    yerr=error,
                    label=group,
                )
            axis.set_title(label)
            axis.set_xticks(places, self.qualities, rotation=20, ha="right")
            axis.axhline(0, color="black", linewidth=0.8)
            axis.grid(axis="y", alpha=0.3)
        axes[0].set_ylabel("in units of the exact gradient")
        axes[-1].legend(title="group")
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure

    def __str__(self):
        rows = [HEAD]
        for method, groups in self.qualities.items():
            for group, quality in groups.items():
                if len(groups) == 2 and group != ALL:
                    continue  # a single group is the whole gradient
                first = group == ALL
                rows.append(
                    (
                        method if first else "",
                        group,
                        f"{quality.cosine:.4f}",
                        f"{quality.norm_ratio:.3f}",
                        f"{quality.relative_bias:.2g}",
                        f"{quality.relative_bias_error:.1g}",
                        f"{quality.relative_variance:.2g}",
                        f"{quality.bias_share:.0%}",
                        f"{1e3 * self.seconds[method]:.3g}" if first else "",
                    )
                )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            left = [
                c.ljust(w) for c, w in zip(row[:2], widths[:2], strict=True)
            ]
            right = [
                c.rjust(w) for c, w in zip(row[2:], widths[2:], strict=True)
            ]
            lines.append("  ".join(left + right).rstrip())
        lines.append(f"exact gradient: {1e3 * self.exact_seconds:.3g} ms")
        return "\n".join(lines)
