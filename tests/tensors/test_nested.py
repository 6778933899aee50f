"""The order of what is kept of a state by places."""

import keras
import pytest

from keras_seqgrad.tensors import nested

NAMES = {
    "counted up": ["gru_9", "gru_10", "gru_11"],
    "one without a number": ["gru", "gru_1", "gru_2", "gru_10"],
    "two numbers": ["gru_1_9", "gru_1_10", "gru_2_1"],
    "a number first": ["2_gru", "10_gru", "gru"],
}


@pytest.mark.parametrize("case", NAMES)
def test_numbers_in_names_are_sorted_as_numbers(case):
    names = NAMES[case]
    state = {name: [name] for name in reversed(names)}
    assert nested.leaves(state) == names


def test_packed_undoes_leaves():
    state = {"rnn_10": [1, (2, 3)], "rnn_9": [4], "lstm": 5}
    assert nested.leaves(state) == [5, 4, 1, 2, 3]
    assert nested.packed(state, nested.leaves(state)) == state
    letters = nested.packed(state, list("abcde"))
    assert letters == {"rnn_10": ["c", ("d", "e")], "rnn_9": ["b"], "lstm": "a"}


def test_names_without_numbers_are_sorted_as_keras_sorts_them():
    state = {"b": [1, 2], "a": {"d": 3, "c": (4, [5])}, "e": []}
    assert nested.leaves(state) == keras.tree.flatten(state)
