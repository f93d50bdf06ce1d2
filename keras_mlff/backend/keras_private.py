"""The fence around private Keras: every private name that the package depends on is used here.

Keras promises nothing about names that begin with an underscore, about `keras.src`, or about which
attributes its trainers read. Each entry below says what it is for. Where Keras no longer has a
name, the entry raises an error that names the versions it was tested with. `tests/backend/
test_keras_private.py` holds one test for each entry, and one that finds private names elsewhere.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any

import keras

TESTED = "3.15"  # the minor version of Keras whose private names these are
ModelType: Any = type(keras.Model)  # the metaclass of all models; that there is one is private
_RESULT_TYPES, _TABLE = "keras.src.backend.common.dtypes", "BIT64_TO_BIT32_DTYPE"
# what Keras's trainer of a backend calls on a model by name, and `TrainerHooks` overrides
_HOOKS = {"tensorflow": ("_maybe_symbolic_build",), "jax": ("_get_jax_state", "jax_state_sync")}


def changed(missing: str, purpose: str) -> RuntimeError:
    """Makes the error for a private name that the installed version of Keras does not have.

    Args:
        missing: The name, such as `"Optimizer._trainable_variables"`.
        purpose: What it is needed for, as the end of a sentence that begins with "needs it to".
    """
    return RuntimeError(
        f"keras_mlff needs a private part of Keras that this version does not have. Received: "
        f"keras {keras.__version__} on {keras.backend.backend()} without `{missing}`; keras_mlff "
        f"needs it to {purpose} and was tested with keras {TESTED}. Install a tested version, "
        f"`pip install 'keras~={TESTED}.0'`, or upgrade keras-mlff."
    )


def _private(owner: Any, name: str, purpose: str) -> Any:
    """Reads a private attribute, or raises the error that explains its absence."""
    try:
        return getattr(owner, name)
    except AttributeError:
        kind = owner.__name__ if hasattr(owner, "__name__") else type(owner).__name__
        raise changed(f"{kind}.{name}", purpose) from None


# Precision


def result_types() -> dict[str, str]:
    """Returns Keras's table of 32-bit types by the 64-bit types that they replace in results."""
    purpose = "compute in float64"
    try:
        module = importlib.import_module(_RESULT_TYPES)
    except ImportError:
        raise changed(_RESULT_TYPES, purpose) from None
    return _private(module, _TABLE, purpose)


def set_result_types(table: dict[str, str]) -> None:
    """Replaces the table that `result_types` returns, for the whole process."""
    result_types()  # which says so where there is no such table
    setattr(importlib.import_module(_RESULT_TYPES), _TABLE, table)


class WeightsInMemory(io.BytesIO):
    """Takes the file that `save_weights` writes, which Keras does not say that it can be."""

    def __str__(self) -> str:
        return "memory.weights.h5"  # as Keras wants names to end


def load_inside(part: Any, block: Callable[[], Any]) -> None:
    """Lets a layer or an optimizer read its own weights from a file inside a context manager.

    `keras.models.load_model` fills a model part by part, and calls each part's
    `load_own_variables` as it finds it on the instance.

    Args:
        part: A layer or an optimizer.
        block: Makes the context manager, anew for each reading.
    """
    load = _private(part, "load_own_variables", "load weights in the precision of their model")

    def load_own_variables(store: Any) -> None:
        with block():
            load(store)

    object.__setattr__(part, "load_own_variables", load_own_variables)


# Parts of models and optimizers


def layers_inside(model: keras.Model) -> list[keras.layers.Layer]:
    """Lists all layers of a model at every depth; `model.layers` lists the outermost alone."""
    flatten = _private(model, "_flatten_layers", "find the layers inside of layers")
    return list(flatten(include_self=False))


def attributes(model: keras.Model) -> dict[str, Any]:
    """Lists a model's attributes by name, those included that PyTorch's modules keep apart."""
    return {name: getattr(model, name) for name in {**vars(model), **_torch_modules(model)}}


def _torch_modules(model: keras.Model) -> dict[str, Any]:
    if keras.backend.backend() != "torch":
        return {}
    return _private(model, "_modules", "find a model's parts by their attributes")


def moving_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[Any, Any]]:
    """Pairs the variables that an optimizer with `use_ema=True` averages with their averages."""
    purpose = "show averaged weights to validation"
    variables = _private(optimizer, "_trainable_variables", purpose)
    averages = _private(optimizer, "_model_variables_moving_average", purpose)
    return [
        (variable, average)
        for variable, average in zip(variables, averages, strict=True)
        if average is not None
    ]


# Training


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Sets the epoch from which a `fit` that has begun goes on.

    Args:
        model: The model that is being fitted.
        epoch: Number of the epoch; `None` leaves the choice to the arguments of `fit`.
    """
    _private(model, "_initial_epoch", "keep a training that was stopped early as it is")
    model._initial_epoch = epoch


def forget_compiled_functions(model: keras.Model) -> None:
    """Lets the next `fit`, `evaluate` and `predict` trace and compile their steps again."""
    for name in ("train_function", "test_function", "predict_function"):
        _private(model, name, "compile a step again after a constant has changed")
        setattr(model, name, None)


def kept_predict_step(model: keras.Model, make: Callable[[], Any]) -> Any:
    """Returns the compiled step of predictions, made anew once Keras or the above forgot it.

    Args:
        model: The model that keeps it.
        make: Makes it.
    """
    known = _private(model, "predict_function", "keep a compiled step until a constant changes")
    if known is None:
        known = model.predict_function = make()
    return known


def is_validation(arguments: dict[str, Any]) -> bool:
    """Removes Keras's mark of a validation from arguments of `evaluate`; tells if it was there.

    `fit` validates by `evaluate`, with data that it has prepared before.
    """
    return bool(arguments.pop("_use_cached_eval_dataset", False))


def validate(evaluate: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls Keras's `evaluate` with the mark that `is_validation` has removed."""
    return evaluate(*args, _use_cached_eval_dataset=True, **kwargs)


def return_weights(model: keras.Model) -> None:
    """Gives a model its weights back after an error; Keras's JAX trainer takes them out."""
    if keras.backend.backend() == "jax":
        _private(model, "jax_state_sync", "give a model its weights back after an error")()


class TrainerHooks:
    """Methods that Keras's trainers call on a model by private names."""

    optimizer: Any
    trainable_variables: list[Any]

    @classmethod
    def check_hooks(cls) -> None:
        """Refuses a version of Keras that would never call the methods below.

        Raises:
            RuntimeError: If a name is gone.
        """
        for name in _HOOKS.get(keras.backend.backend(), ()):
            if not hasattr(keras.Model, name):
                raise changed(f"Model.{name}", "train a model and keep its weights after an error")

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Creates what the optimizer keeps; Keras would average the replicas' first batches."""
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _get_jax_state(self, purge_model_variables: bool = False, **parts: bool) -> Any:
        """Keeps what Keras's JAX trainer takes out of the variables, so that it can be returned.

        Without it, an error in the first step, such as a missing label, would leave a model
        without weights.
        """
        parent: Any = super()
        state = parent._get_jax_state(purge_model_variables=purge_model_variables, **parts)
        if purge_model_variables:
            kinds = ("trainable", "non_trainable", "optimizer", "metrics")  # in their order
            taken = [f"{kind}_variables" for kind in kinds if parts.get(f"{kind}_variables")]
            self._jax_state = dict(zip(taken, state, strict=True))
        return state
