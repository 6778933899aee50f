"""What TensorFlow has made of a step: do updates wait for earlier reads?

Looks at the graph after grappler, where loops are no functions any more but
nodes in frames, which run as soon as what they wait for has run.
"""

import collections

import tensorflow as tf

RESOURCE = tf.resource.as_datatype_enum
READS = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
# What reads nothing that an update changes.
INDIFFERENT = {"VariableShape", "VarIsInitializedOp"}
HAND_ON = {
    "Enter",
    "Exit",
    "Identity",
    "Merge",
    "NextIteration",
    "Switch",
    "_SwitchN",
}


def optimized_graphs(run, folder):
    """The graphs of all functions that `run` is the first to call."""
    # An earlier trace, left on, would bring its graphs along: only an export
    # (here to no writer) forgets them.
    tf.summary.trace_on(graph=True)
    tf.summary.trace_export("earlier", step=0)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        tf.summary.trace_on(graph=True)
        run()
        tf.summary.trace_export("graphs", step=0)
    writer.close()
    [path] = folder.glob("events*")
    graphs = []
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        told = tf.compat.v1.RunMetadata.FromString(
            event.tagged_run_metadata.run_metadata
        )
        for value in event.summary.value:
            for text in value.tensor.string_val:
                told.MergeFromString(text)
        graphs += [f.post_optimization_graph for f in told.function_graphs]
    return graphs


def source(name):
    return name.removeprefix("^").split(":")[0]


def frames_of(nodes, after):
    """Name of a node -> the loops that it is in, from the outermost."""
    frames = {name: () for name, node in nodes.items() if not node.input}
    todo = collections.deque(frames)
    while todo:
        name = todo.popleft()
        outside = nodes[name].op == "Exit"
        frame = frames[name][:-1] if outside else frames[name]
        for other in after[name]:
            node, its = nodes[other], frame
            if node.op == "Enter":
                its = (*frame, node.attr["frame_name"].s)
            # A constant may seem to stand outside of where it is used.
            if other not in frames or len(its) > len(frames[other]):
                frames[other] = its
                todo.append(other)
    return frames


def waits(nodes):
    """Name of a node -> names of the nodes that it waits for directly.

    One iteration of a loop runs after another, so there is no way back; and
    what comes out of a loop has waited for all that is in it.
    """
    before = {
        name: {
            source(i)
            for i in node.input
            if nodes[source(i)].op != "NextIteration"
        }
        for name, node in nodes.items()
    }
    after = collections.defaultdict(list)
    for name, node in nodes.items():
        for i in node.input:
            after[source(i)].append(name)
    frames = frames_of(nodes, after)
    inside = collections.defaultdict(set)
    for name, frame in frames.items():
        for depth in range(1, len(frame) + 1):
            if depth < len(frame) or nodes[name].op != "Exit":
                inside[frame[:depth]].add(name)
    for frame, names in inside.items():
        before[frame] = names  # a node of its own, for the loop's end
    for name, frame in frames.items():
        if nodes[name].op == "Exit":
            before[name] = before[name] | {frame}
    return before


def ancestors(before):
    """(node -> bits of all that it waits for, node -> its bit)."""
    bit = {name: 1 << place for place, name in enumerate(before)}
    left = {name: len(names) for name, names in before.items()}
    after = collections.defaultdict(list)
    for name, names in before.items():
        for other in names:
            after[other].append(name)
    todo = [name for name, count in left.items() if not count]
    found = {}
    while todo:
        name = todo.pop()
        bits = 0
        for other in before[name]:
            bits |= found[other] | bit[other]
        found[name] = bits
        for other in after[name]:
            left[other] -= 1
            if not left[other]:
                todo.append(other)
    assert len(found) == len(before)
    return found, bit


def sides_of(nodes, before, order):
    """Name of a node -> (condition, side) of the branches that it is in.

    Of two nodes on different sides of a condition only one runs.
    """
    sides = {}
    for name in order:
        node = nodes.get(name)
        sides[name] = set()
        if node is None or node.op == "Merge":
            continue
        for other in before[name]:
            sides[name] |= sides[other]
        for i in node.input:
            origin = nodes[source(i)]
            if origin.op == "Switch":
                asked = source(origin.input[1])
                if nodes[asked].op != "LoopCond":
                    sides[name].add((asked, i.endswith(":1")))
    return sides


def uses_of(nodes):
    """Variable -> names of the nodes that read or write it."""
    uses = collections.defaultdict(set)
    for name, node in nodes.items():
        if node.op in HAND_ON | INDIFFERENT:
            continue
        for i in node.input:
            if i.startswith("^"):
                continue
            origin = nodes[source(i)]
            while origin.op in HAND_ON:
                origin = nodes[source(origin.input[0])]
            if origin.op == "_Arg" and origin.attr["T"].type == RESOURCE:
                uses[origin.name].add(name)
    return uses


def unordered(graph):
    """Pairs of a write and another use of a variable that may change places.

    Returns:
        (the pairs' names, how many pairs were looked at).
    """
    nodes = {node.name: node for node in graph.node}
    before = waits(nodes)
    found, bit = ancestors(before)
    sides = sides_of(nodes, before, found)  # in the order of running
    pairs = {
        tuple(sorted((write, use)))
        for names in uses_of(nodes).values()
        for write in names
        if nodes[write].op not in READS
        for use in names - {write}
    }
    free = [
        (a, b)
        for a, b in sorted(pairs)
        if not found[a] & bit[b]
        and not found[b] & bit[a]
        and not any((asked, not side) in sides[b] for asked, side in sides[a])
    ]
    return free, len(pairs)


def of(run, folder):
    """`unordered` of all functions that `run` is the first to call."""
    pairs, count = [], 0
    for graph in optimized_graphs(run, folder):
        found, looked_at = unordered(graph)
        pairs += found
        count += looked_at
    return pairs, count


def check(run, folder):
    """Fails where an update may come before an earlier read."""
    unordered, pairs = of(run, folder)
    assert pairs > 20
    assert not unordered
