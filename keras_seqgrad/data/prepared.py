"""tensorflow-datasets without surprises: local data, or an error at once."""

import pathlib

from keras_seqgrad.tensors import arguments


def load(name, files, data_dir=None, download=False):
    """A prepared tensorflow-datasets builder.

    Without a network, tensorflow-datasets retries a download for minutes
    before it gives up. So nothing is downloaded unless `download=True`: the
    data must be prepared already, or its original files must lie where
    tensorflow-datasets looks for them first.

    Args:
        name: Name of the data set.
        files: Names of its original files in `downloads/manual`.
        data_dir: Folder of tensorflow-datasets. Default: its own.
        download: Whether the network may be used.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        FileNotFoundError: The data is not there and `download` is False.
    """
    arguments.flag(download, "download")
    if data_dir is not None:
        arguments.path(data_dir, "data_dir", "the path of a folder, or None")
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f"{name!r} is read through tensorflow-datasets, which is not "
            "installed. Run: pip install keras_seqgrad[datasets]"
        ) from error
    data_dir = None if data_dir is None else str(data_dir)
    builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    manual = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    if not download and not all((manual / file).exists() for file in files):
        raise FileNotFoundError(
            f"The data set {name!r} is not prepared in "
            f"{builder.data_dir_root} and its files ({', '.join(files)}) are "
            f"not in {manual}. Allow the network by download=True, put the "
            "files there, or give the folder that has them as `data_dir`. "
            f"Received: data_dir={data_dir!r}, download={download!r}"
        )
    builder.download_and_prepare()
    return builder
