"""How a method says what it is."""

import keras

from keras_seqgrad.methods import ARTBP, BPTT, SyntheticGradients, TruncatedBPTT


def test_a_method_shows_the_settings_that_are_not_the_default():
    assert repr(BPTT()) == "BPTT()"
    assert repr(TruncatedBPTT(5, 5)) == "TruncatedBPTT(length=5, stride=5)"
    assert repr(ARTBP(3, None, seed=1)) == (
        "ARTBP(mean_length=3.0, alpha=None, seed=1)"
    )
    guesses = SyntheticGradients(
        5, synthesizer_optimizer=keras.optimizers.SGD(0.1)
    )
    assert repr(guesses) == (
        "SyntheticGradients(length=5, synthesizer_optimizer=SGD)"
    )
