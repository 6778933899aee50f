"""What compare_methods.py found: its table and its picture of a task."""

import math
import statistics

import numpy as np
from common import markdown, subplots

QUALITY = ("cosine", "bias", "variance", "bias_share")
ENDS = ("bias_lower", "bias_upper")
HEAD = "| method | updates | rate | {} | cosine | relative bias | relative "
HEAD += "variance | share of bias | seconds a million steps | memory (MiB) |"


def last(run):
    """The score at the end; infinite where training did not get there."""
    score = run["scores"][-1]
    whole = len(run["scores"]) == len(run["steps"])
    return score if whole and math.isfinite(score) else math.inf


def chosen(result):
    """The runs of the chosen rate, the first one that which was watched."""
    found = [r for r in result["runs"] if r["rate"] == result["rate"]]
    [watched] = [run for run in found if run["watched"]]
    others = [r for r in found if r["seed"] != watched["seed"]]
    return [watched, *others]


def seconds_of(result):
    """A million steps in the quickest epoch of all runs."""
    return min(run["seconds"] for run in result["runs"])


def shown_memory(result):
    """MiB of a long window, where it was measured."""
    memory = result["memory"]
    return f"{memory:.0f}" if math.isfinite(memory) else "–"


def table(label, found):
    """The results of a task in Markdown."""
    lines = [HEAD.format(label), "|---|" + "---:|" * 9]
    for name, result in found.items():
        if "refused" in result:
            continue
        runs = chosen(result)
        ends = sorted(last(run) for run in runs)
        score = f"{statistics.median(ends):.3g}"
        if len(ends) > 1:
            score += f" ({ends[0]:.3g} to {ends[-1]:.3g})"
        # There is nothing to compare with where the exact gradient is zero.
        quality = [
            f"{value:.2g}" if math.isfinite(value) else "–"
            for value in (runs[0][measure][-1] for measure in QUALITY)
        ]
        quality[QUALITY.index("bias")] = with_range(runs[0])
        cells = [name, f"{runs[0]['updates']:,}"]
        cells += [f"{result['end']}{result['rate']:g}", score, *quality]
        cells += [f"{seconds_of(result):.3g}", shown_memory(result)]
        lines.append(markdown(cells))
    refused = [n for n, r in found.items() if "refused" in r]
    lines += ["", *(f"{n} refuses: {found[n]['refused']}" for n in refused)]
    return "\n".join(lines)


def with_range(run):
    """The bias at the end, and from where to where it may be."""
    bias, lower, upper = (run[m][-1] for m in ("bias", *ENDS))
    if not math.isfinite(bias):
        return "–"
    shown = f"{bias:.2g}"
    return shown if lower == upper else f"{shown} ({lower:.2g} to {upper:.2g})"


def plot(place, label, found, methods, path):
    found = {n: r for n, r in found.items() if "refused" not in r}
    figure, axes = subplots(2, 2, (12, 8))
    # Twelve methods, and ten colours: the last ones are dotted.
    colors = {name: f"C{n % 10}" for n, name in enumerate(methods)}
    dashes = {name: "-" if n < 10 else ":" for n, name in enumerate(methods)}
    for name, result in found.items():
        for number, run in enumerate(chosen(result)):
            axes[0, 0].plot(
                np.array(run["steps"][: len(run["scores"])]) / 1e6,
                run["scores"],
                color=colors[name],
                linestyle=dashes[name],
                alpha=0.4 if number else 1.0,
                label=None if number else name,
            )
        run = chosen(result)[0]
        read = np.array(run["steps"][: len(run["cosine"])]) / 1e6
        axes[0, 1].plot(
            read, run["cosine"], color=colors[name], linestyle=dashes[name]
        )
    axes[0, 0].set(yscale="log", ylabel=label, title="After every epoch")
    axes[0, 1].set(ylabel="cosine", title="Gradient beside the exact one")
    for axis in axes[0]:
        axis.set_xlabel("million steps read")
        axis.grid(alpha=0.3)
    names, runs = list(found), [chosen(r)[0] for r in found.values()]
    at = np.arange(len(names))
    bias = np.array([run["bias"][-1] for run in runs])
    noise = np.sqrt([run["variance"][-1] for run in runs])
    ends = np.array([[run[end][-1] for run in runs] for end in ENDS])
    axes[1, 0].barh(at - 0.2, bias, 0.4, xerr=abs(ends - bias), label="bias")
    axes[1, 0].barh(at + 0.2, noise, 0.4, label="noise of one estimate")
    # One that has diverged leaves the picture, and the others stay legible.
    most = np.nanmax(np.where(np.maximum(bias, noise) < 10, bias + noise, 1))
    axes[1, 0].set_xlim(0, 1.1 * most)
    for row, value in zip(at, bias, strict=True):
        if value > 1.1 * most:
            axes[1, 0].text(most, row + 0.2, f"{value:.1g}", ha="right")
    axes[1, 0].set(
        title="Error of the gradient at the end",
        xlabel="over the norm of the exact gradient",
    )
    axes[1, 0].legend()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    seconds = [seconds_of(result) for result in found.values()]
    bars = axes[1, 1].barh(at, seconds, color=[colors[n] for n in names])
    for bar, name in zip(bars, names, strict=True):
        bar.set_hatch(None if dashes[name] == "-" else "..")
    axes[1, 1].bar_label(
        bars, [f"{shown_memory(r)} MiB" for r in found.values()], padding=3
    )
    axes[1, 1].margins(x=0.2)
    axes[1, 1].set(
        title="Time of training, memory of a long window",
        xlabel="seconds for a million steps",
    )
    for axis in axes[1]:
        axis.set_yticks(at, names)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    columns = min(len(found), 6)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    figure.suptitle(f"Task: {place}")
    figure.savefig(path, dpi=110)
