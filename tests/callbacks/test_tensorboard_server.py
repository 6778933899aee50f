"""A real TensorBoard server reads what the callback writes."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request

import keras
import pytest

import keras_seqgrad as ksg
from tests import zoo

# TensorBoard needs no TensorFlow to show what there is, and starts the sooner.
SERVER = """
import sys
sys.modules["tensorflow"] = None
from tensorboard.main import run_main
run_main()
"""


@contextlib.contextmanager
def server(folder):
    """A server on a free port of the loopback; gives its address."""
    options = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "http://" in line:
                yield "http://" + line.split("http://")[1].split("/")[0]
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def ask(address, path, body=None):
    request = urllib.request.Request(
        f"{address}/data/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_the_pages_are_ready(tmp_path):
    x, y = zoo.data(5)
    model = ksg.SequenceModel.from_model(zoo.network("simple_rnn"))
    model.compile(
        keras.optimizers.SGD(0.01),
        "mse",
        method=ksg.methods.TruncatedBPTT(3),
        jit_compile=False,
    )
    callback = ksg.callbacks.GradientDiagnostics(
        tmp_path / "run",
        (x, y),
        every=1,
        methods={"cut": model.method, "random (3)": ksg.methods.ARTBP(3)},
        repeats=3,
        max_share=None,
    )
    model.fit(x, y, callbacks=[callback], verbose=0)
    with server(tmp_path) as address:
        end = time.monotonic() + 60
        while not ask(address, "runs") and time.monotonic() < end:
            time.sleep(0.2)
        scalars = ask(address, "plugin/scalars/tags")["run"]
        layout = ask(address, "plugin/custom_scalars/layout")
        images = ask(address, "plugin/images/tags")["run"]
        histograms = ask(address, "plugin/histograms/tags")["run"]
        texts = ask(address, "plugin/text/tags")["run"]
        experiment = ask(
            address, "plugin/hparams/experiment", {"experimentName": ""}
        )
        points = ask(
            address, "plugin/scalars/scalars?run=run&tag=gradient_cosine/cut"
        )
    assert {"gradient_cosine/cut", "gradient_bias/random_3"} <= set(scalars)
    assert {"state_gradients", "influence_profile"} == set(images)
    assert {"gradient_errors/cut", "gradient_errors/random_3"} <= set(
        histograms
    )
    assert texts == ["run"]
    charts = {
        chart["title"]: chart
        for category in layout["category"]
        for chart in category["chart"]
    }
    cosine = charts["cosine with the exact gradient"]["multiline"]
    assert cosine["tag"] == ["gradient_cosine/.*"]
    margin = charts["bias with its standard error"]["margin"]
    assert [series["value"] for series in margin["series"]] == [
        "gradient_bias/cut",
        "gradient_bias/random_3",
    ]
    # A bracket in a tag would leave the charts without lines.
    assert not [tag for tag in scalars if "(" in tag]
    # Everything a chart names has been written.
    for series in margin["series"]:
        assert set(series.values()) <= set(scalars)
    found = {info["name"] for info in experiment["hparamInfos"]}
    assert {"method", "method.length", "optimizer", "steps"} <= found
    assert [point[1] for point in points] == [0, 2]
    history = model.history.history["gradient_cosine/cut"]
    assert abs(points[-1][2] - history[-1]) < 1e-6
