"""What is saved can be loaded, and what was changed in a file is refused."""

import functools
import json
import zipfile

import keras
import pytest

import keras_seqgrad as ksg
from tests import zoo


@keras.saving.register_keras_serializable("tests")
def registered_synthesizer(size):
    return ksg.synthesizers.linear(size)


@keras.saving.register_keras_serializable("tests")
def registered_part_loss(window, segment, outputs):
    return window.target_loss(segment, outputs)


def unregistered(size):
    return ksg.synthesizers.linear(size)


def model_of(method, **options):
    network = zoo.network("simple_rnn")
    model = ksg.SequenceModel.from_model(network, **options)
    model.compile("sgd", "mse", method=method)
    return model


def synthetic(synthesizer):
    return ksg.methods.SyntheticGradients(3, synthesizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "synthesizer, loaded",
    [
        (ksg.synthesizers.linear, "linear"),
        (ksg.synthesizers.dense, "dense"),
        (ksg.synthesizers.elementwise, "elementwise"),
        (registered_synthesizer, registered_synthesizer),
    ],
)
def test_synthesizers_come_back(synthesizer, loaded, tmp_path):
    model = model_of(synthetic(synthesizer))
    model.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    assert found.method.synthesizer == loaded
    names = [w.name for w in model.method_state.parts["synthesis"].learned]
    parts = found.method_state.parts
    assert [w.name for w in parts["synthesis"].learned] == names


def test_a_part_loss_comes_back(tmp_path):
    model = model_of(ksg.methods.FPTT(3, part_loss=registered_part_loss))
    model.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    assert found.method.part_loss is registered_part_loss


@pytest.mark.parametrize(
    "function, shown",
    [
        (unregistered, "unregistered"),
        (lambda size: ksg.synthesizers.linear(size), "<lambda>"),
        (functools.partial(ksg.synthesizers.dense, hidden=2), "functools.part"),
    ],
    ids=["function", "lambda", "partial"],
)
def test_what_could_not_be_loaded_is_not_saved(function, shown, tmp_path):
    text = f"Expected in synthesizer one that is registered.*{shown}"
    with pytest.raises(ValueError, match=text):
        model_of(synthetic(function)).save(tmp_path / "model.keras")
    method = ksg.methods.FPTT(3, part_loss=lambda *parts: 0.0)
    with pytest.raises(ValueError, match="Expected in part_loss one that is"):
        model_of(method).save(tmp_path / "model.keras")


def rewritten(path, change):
    """The file, its config changed by `change`."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    files["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def saved(path, method="bptt", **options):
    model_of(method, **options).save(path)
    return path


def test_an_old_file_of_hdf5_is_refused(tmp_path):
    network = zoo.network("gru")
    models = [
        ksg.SequenceModel.from_model(network),
        ksg.SequenceModel(network.inputs, network.outputs),
    ]
    for model in models:
        model.compile("sgd", "mse")
        save_model = functools.partial(keras.saving.save_model, model)
        for save in (model.save, save_model):
            with pytest.raises(ValueError, match="name that ends in .keras"):
                save(tmp_path / "model.h5")


def test_a_file_without_its_method_is_refused(tmp_path):
    path = saved(tmp_path / "model.keras", ksg.methods.TruncatedBPTT(3))
    rewritten(path, lambda config: config["compile_config"].pop("method"))
    with pytest.raises(ValueError, match="does not say by which method"):
        keras.models.load_model(path)
    assert keras.models.load_model(path, compile=False).method is None


@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("delete", [True, False])
def test_a_file_that_is_stateful_no_more_is_refused(stateful, delete, tmp_path):
    path = saved(tmp_path / "model.keras", stateful=stateful)

    def change(config):
        if delete:
            del config["config"]["stateful"]
        else:
            config["config"]["stateful"] = not stateful

    rewritten(path, change)
    if delete and not stateful:
        assert not keras.models.load_model(path).stateful
        return
    with pytest.raises(ValueError, match=f"stateful={stateful}, which it was"):
        keras.models.load_model(path)


def test_older_files_are_loaded(tmp_path):
    path = saved(tmp_path / "model.keras", stateful=True)
    rewritten(path, lambda config: config["compile_config"].pop("stateful"))
    assert keras.models.load_model(path).stateful


# What would make a file, if it were run.
COMMAND = "open({path!r}, 'w')"
BYTECODE = {
    "class_name": "__lambda__",
    "config": {"value": ["4wAAAAA=", None, None]},
}


def called(module, name):
    return {
        "module": module,
        "class_name": name,
        "config": {"args": [COMMAND], "source": COMMAND, "command": COMMAND},
        "registered_name": None,
    }


def function(name, module="builtins"):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


PAYLOADS = {
    "bytecode": BYTECODE,
    "lambda layer": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"function": BYTECODE, "name": "l"},
        "registered_name": None,
    },
    "eval": called("builtins", "eval"),
    "exec": called("builtins", "exec"),
    "system": called("os", "system"),
    "popen": called("subprocess", "Popen"),
    "runner": called("keras_seqgrad.model", "keras.utils.os.system"),
    "named eval": function("eval"),
    "named system": function("system", "os"),
    "path": function("os.system"),
}


def with_path(payload, path):
    return json.loads(json.dumps(payload).replace("{path!r}", repr(str(path))))


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["method", "synthesizer", "part_loss"])
def test_no_file_runs_code(place, payload, tmp_path, monkeypatch):
    """Keras' safe mode stands before all that we load, too."""
    run, ran = tmp_path / "ran", []
    for module, name in [("os", "system"), ("subprocess", "Popen")]:
        monkeypatch.setattr(f"{module}.{name}", lambda *a, **k: ran.append(a))
    for name in ("eval", "exec"):
        real = getattr(__builtins__, name, None) or __builtins__[name]

        def watched(source, *args, real=real):
            if "open(" in str(source) and str(run) in str(source):
                ran.append(source)
            return real(source, *args)

        monkeypatch.setattr(f"builtins.{name}", watched)
    crafted = with_path(PAYLOADS[payload], run)
    method = (
        ksg.methods.FPTT(3) if place == "part_loss" else synthetic("linear")
    )
    path = saved(tmp_path / "model.keras", method)

    def change(config):
        entry = config["compile_config"]
        if place == "method":
            entry["method"] = crafted
        else:
            entry["method"]["config"][place] = crafted

    rewritten(path, change)
    with pytest.raises((ValueError, TypeError, ImportError)):
        keras.models.load_model(path)
    assert not ran and not run.exists()
