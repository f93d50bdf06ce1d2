"""What the tests of options that add weights share."""

import keras


def copy_weights(source, model, added):
    """Gives a model the weights of one that lacks those added by an option."""
    added = {id(weight) for weight in added}
    assert added
    shared = [weight for weight in model.weights if id(weight) not in added]
    values = map(keras.ops.convert_to_numpy, source.weights)
    model.assign_weights(list(zip(shared, values, strict=True)))
