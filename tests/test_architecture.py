"""The rooms of the package, in the order in which they are read and imported.

docs/architecture.md tells the same in words.
"""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "keras_seqgrad"

# Each imports from those above it alone; the last ones stand beside: nothing
# but the package itself imports them.
ORDER = [
    "_installed",
    "tensors",
    "truncation",
    "synthesizers",
    "ops",
    "layers",
    "optimizers",
    "network",
    "state",
    "window",
    "methods",
    "model",
    "diagnostics",
    "callbacks",
    "data",
    "__init__",
]
ROOT_FILES = 6

# The files of a room that other rooms may import; all others are its own.
# A method's folder shows its `__init__` alone.
SHOWN = {
    "tensors": {
        "arguments",
        "devices",
        "logits",
        "masks",
        "nested",
        "origin",
        "pieces",
        "readings",
        "replicas",
        "shape",
        "updates",
    },
    "ops": {
        "activations",
        "arguments",
        "common",
        "documentation",
        "fast_cell",
        "fast_scan",
        "linear_scan",
        "loops",
        "rnn",
    },
    "layers": {"cells", "cudnn", "pooling", "scan"},
    "optimizers": {"average_weights", "fptt", "regularizer"},
    "network": {
        "cuttable",
        "front",
        "normed",
        "norming",
        "original",
        "passage",
        "reached",
        "scans",
        "segmented",
        "statistics",
        "tracing",
    },
    "state": {
        "beside",
        "by_rows",
        "carried",
        "method_state",
        "rows",
        "runs",
        "saved",
        "snapshot",
        "vector",
    },
    "window": {
        "added",
        "agreement",
        "behind",
        "checkpoints",
        "ends",
        "guard",
        "loops",
        "opening",
        "probe",
        "pullback",
        "summed",
        "window",
    },
    "methods": {"synthetic_gradients"},
    "diagnostics": {
        "card",
        "compare",
        "given",
        "heat_map",
        "influence",
        "method_measures",
        "pictures",
        "profile",
        "size",
        "steps",
    },
}


def parts_of(path):
    """Where a file stands, as "window.loops" or "methods.fptt.method"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {parts_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source, known=FILES):
    """The files of the package that a source imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        first, *rest = node.module.split(".")
        if first != "keras_seqgrad":
            continue
        for alias in node.names:
            whole = ".".join([*rest, alias.name])
            folder = ".".join([*rest, "__init__"])
            for name in (whole, f"{whole}.__init__", ".".join(rest), folder):
                if name in known:
                    found.add(name)
                    break
    return found


GRAPH = {name: imports(path.read_text()) for name, path in FILES.items()}


def room_of(name):
    return name.split(".")[0]


def owner_of(name):
    """The folder whose files are nobody else's: a method's, or the room."""
    return name.rpartition(".")[0] or name


def is_shown(target, importer):
    """Whether a file may be imported by one outside of its folder."""
    owner, _, file = target.rpartition(".")
    if not owner or f"{owner_of(importer)}.".startswith(f"{owner}."):
        return True
    if owner.startswith("methods."):
        # One method may build on another, others see what `methods` shows.
        inside = room_of(importer) == "methods"
        method = owner.partition(".")[2]
        return file == "__init__" and (inside or method in SHOWN["methods"])
    return file == "__init__" or file in SHOWN.get(owner, ())


def test_every_room_has_its_place():
    assert {room_of(name) for name in FILES} == set(ORDER)


def test_few_files_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= ROOT_FILES


def pairs():
    """Every import: (the file, the file that it imports)."""
    return {(name, target) for name in GRAPH for target in GRAPH[name]}


def test_imports_go_one_way():
    place = {name: ORDER.index(room_of(name)) for name in FILES}
    assert {(a, b) for a, b in pairs() if place[b] > place[a]} == set()


def test_no_circle():
    list(graphlib.TopologicalSorter(GRAPH).static_order())


def test_only_what_a_room_shows_is_imported():
    assert {(a, b) for a, b in pairs() if not is_shown(b, a)} == set()


def test_a_room_shows_no_more_than_is_used():
    used = {
        (room_of(target), target.split(".")[1])
        for name, target in pairs()
        if room_of(target) != room_of(name)
        and target.partition(".")[2] not in ("", "__init__")
    }
    shown = {(room, file) for room, files in SHOWN.items() for file in files}
    assert shown == used


def test_a_method_knows_no_model():
    for name, targets in GRAPH.items():
        if room_of(name) in ("methods", "window"):
            assert "model" not in targets


def test_tests_mirror_the_rooms():
    """Every folder of tests is one of the package."""
    others = {"benchmarks", "examples", "docs"}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        place = path.relative_to(ROOT / "tests").parent
        if place.parts and place.parts[0] not in others:
            assert (PACKAGE / place).is_dir(), path


@pytest.mark.parametrize(
    "source, found",
    [
        ("from keras_seqgrad.window.loops import a", {"window.loops"}),
        ("from keras_seqgrad.window import loops", {"window.loops"}),
        ("from keras_seqgrad import ops", {"ops.__init__"}),
        ("from keras_seqgrad.methods.fptt import F", {"methods.fptt.__init__"}),
        ("def f():\n    from keras_seqgrad.model import M", {"model"}),
        ("from keras import ops", set()),
    ],
)
def test_imports_are_found(source, found):
    assert imports(source) == found


def test_a_hidden_file_is_found():
    assert not is_shown("window.trail", "methods.bptt")
    assert not is_shown("methods.fptt.part_losses", "methods.base")
    assert not is_shown("methods.fptt.__init__", "diagnostics.compare")
    assert is_shown("window.trail", "window.loops")
    assert is_shown("methods.base", "methods.fptt.method")
