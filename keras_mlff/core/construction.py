"""How models are made and entered: all arguments kept, all weights created, one precision."""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from keras_mlff import backend
from keras_mlff.backend import keras_private

_MOST = {"num_layers": 1000, "degrees": 32, "num_spherical": 32}
_MOST_OF_OTHERS = 100_000


def policy_of(dtype: Any) -> Any:
    """Finds Keras's policy of a precision that a force field can have.

    Args:
        dtype: A name such as `"float64"` or a policy of Keras; the global policy where `None`.

    Raises:
        ValueError: If it is not float32 or float64 throughout.
    """
    given = keras.config.dtype_policy() if dtype is None else dtype
    with contextlib.suppress(ValueError, TypeError):  # of Keras, for names it does not know
        policy = keras.dtype_policies.get(given)
        # maps of policies, mixed and quantized ones have other names
        if policy.name in ("float32", "float64"):
            return policy
    source = "the global policy (keras.config.set_dtype_policy)" if dtype is None else "`dtype`"
    raise ValueError(
        "A force field computes and stores in float32 or float64: energies differ by less than "
        "half precision resolves, and forces are their derivatives. Received from "
        f"{source}: {getattr(given, 'name', given)!r}. Pass dtype='float32' or dtype='float64'."
    )


@contextlib.contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """Gives everything made inside of a block a precision, and puts the one before back.

    Matrices are multiplied with all digits, unless `backend.allow_tf32` leaves that to the
    framework.

    Args:
        dtype: What `policy_of` takes.

    Raises:
        RuntimeError: In a forked process that would hang, see `backend.refuse_fork`.
    """
    backend.refuse_fork()
    policy = policy_of(dtype)
    before = keras.config.dtype_policy()
    with contextlib.ExitStack() as stack:
        if policy.compute_dtype == "float64":
            stack.enter_context(backend.double_precision())
        if not backend.tf32_is_allowed():
            stack.enter_context(backend.full_float32())
        keras.config.set_dtype_policy(policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def in_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a method in the model's precision."""

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        with precision(self.dtype_policy):
            return method(self, *args, **kwargs)

    return wrapper


def load_in_precision(part: Any, model: Any) -> None:
    """Lets `keras.models.load_model`, which fills part by part, keep float64 on every backend.

    Args:
        part: A layer of the model, or its optimizer.
        model: The model, whose precision counts.
    """
    if model.compute_dtype == "float64":
        keras_private.load_inside(part, lambda: precision(model.dtype_policy))


class Arguments(collections.UserDict[str, Any]):
    """The arguments that a model was made with, by name.

    Not a dict: of that Keras would make one of its own, which looks for layers and variables.
    """


class Complete(keras_private.ModelType):
    """Makes constructors keep all arguments, hand their precision down and create all weights.

    Keras records only the arguments that were passed, so a changed default would change saved
    models; and layers made inside would take the global precision instead of the model's.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - of a metaclass
        given = constructor_arguments(cls, args, kwargs)
        _check_sizes(given)
        with precision(given["dtype"]):
            model = super().__call__(*args, **kwargs)
            model.arguments = Arguments(given)
            model.build()
        for layer in keras_private.layers_inside(model):
            load_in_precision(layer, model)
        return model


def _check_sizes(arguments: Mapping[str, Any]) -> None:
    """Refuses whole numbers, as of a damaged file, that no memory or patience would suffice for."""
    for name, value in arguments.items():
        most = _MOST.get(name, _MOST_OF_OTHERS)
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, int) and number > most:
                raise ValueError(
                    f"`{name}` is larger than any model could use. Received: {name}={value!r}; "
                    f"{most} at most."
                )


def constructor_arguments(model: type, args: Any, kwargs: Any) -> dict[str, Any]:
    """Lists all arguments of a constructor and of those it hands on to, defaults included.

    Args:
        model: The class of the model.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.

    Raises:
        TypeError: If an option that is True or False is given something else.
    """
    defaults: dict[str, Any] = {}
    flags: set[str] = set()
    for owner in reversed(model.__mro__[: model.__mro__.index(keras.Model)]):
        for name, parameter in inspect.signature(owner.__init__).parameters.items():  # type: ignore[misc]
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self":
                defaults[name] = parameter.default
                if parameter.annotation in ("bool", bool):
                    flags.add(name)
    passed = inspect.signature(model.__init__).bind(None, *args, **kwargs).arguments  # type: ignore[misc]
    passed.pop("self", None)
    found = defaults | passed.pop("kwargs", {}) | passed
    for name in flags & found.keys():
        if not isinstance(found[name], bool):
            raise TypeError(
                f"`{name}` of {model.__name__} is True or False. Received: {name}={found[name]!r}."
            )
    return found
