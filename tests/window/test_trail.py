import gc

from keras_seqgrad import SequenceModel, methods
from tests import zoo


def test_arrays_that_nobody_reads_are_not_reported(told_by_tensorflow):
    """A loop of one segment, whose states and masks are not asked for."""
    x, y = zoo.data(5, per_sequence=True)
    model = SequenceModel.from_model(zoo.network("gru", per_sequence=True))
    model.compile("sgd", "mse", method=methods.FPTT(2), run_eagerly=True)
    model.fit(x, y, verbose=0)
    # Older generations may take a minute; the session asks again at its end.
    gc.collect(0)
    assert not told_by_tensorflow
