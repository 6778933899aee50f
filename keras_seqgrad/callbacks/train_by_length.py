"""The function of a training whose truncation length moves."""

import keras

from keras_seqgrad.state import by_rows


class Length(keras.layers.Layer):
    """The truncation length that training has reached, to go on from.

    It is kept with what the method keeps, so that whoever brings a training
    back brings it back as well.
    """

    def __init__(self):
        super().__init__(name="length", trainable=False, autocast=False)
        self.number = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            name="length",
        )
        self.built = True

    def set(self, length):
        self.number.assign(length)


class TrainByLength(by_rows.StandIn):
    """Trains with the length that training has reached.

    Each length has a method of its own, and a function, which Keras makes and
    which is compiled when it is first used.

    Args:
        model: The `SequenceModel`, compiled with a method of a length.
        reached: The `Length`.
        kept: (methods, functions) by length, of a run before.
    """

    def __init__(self, model, reached, kept=None):
        self.reached = reached
        self.methods, self.functions = kept or ({}, {})
        self.methods[model.method.length] = model.method
        super().__init__(model, "training")
        self.functions[model.method.length] = self.function

    def length(self):
        """The length that training has reached."""
        return int(self.reached.number.numpy())

    def move_to(self, length):
        """Trains with another length from now on."""
        self.reached.set(length)
        self.model.method = self._method(length)

    def _method(self, length):
        if length not in self.methods:
            method = self.model.method
            self.methods[length] = type(method).from_config(
                {**method.get_config(), "length": length}
            )
        return self.methods[length]

    def __call__(self, batches):
        # Read here, since a state may be brought back at any time.
        length = self.length()
        self.model.method = self._method(length)
        if length not in self.functions:
            self.model.make_train_function(force=True)
            self.functions[length] = getattr(self.model, self.name)
        found = self.functions[length](batches)
        # What compiles for rows has put itself here.
        self.begin()
        return found

    def end(self):
        """Leaves the function of the length that was reached, if it is made."""
        setattr(self.model, self.name, self.functions.get(self.length()))

    def still_valid(self, model):
        """(methods, functions) for another run, as far as they are good.

        A model that was compiled again, or has other class weights, has
        another function.
        """
        function = getattr(model, self.name)
        same = model is self.model and model.method in self.methods.values()
        if same and function is self.functions.get(model.method.length):
            return self.methods, self.functions
        return None
