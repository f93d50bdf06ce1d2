"""What each framework does in its own way; the three modules hold the same names in one order.

`value_and_gradient` turns an energy into forces. The steps beside it are what Keras calls for one
batch; they exist because Keras weighs a batch by the first axis of its first array, which on a
graph is the number of atoms or edges, and because padding must not count.
"""

import keras_mlff.frameworks  # noqa: F401 - before Keras

# isort: split
import keras

from keras_mlff.backend.forks import refuse_fork as refuse_fork
from keras_mlff.backend.precision import allow_tf32 as allow_tf32
from keras_mlff.backend.precision import tf32_is_allowed as tf32_is_allowed

if keras.backend.backend() == "tensorflow":
    from keras_mlff.backend.tensorflow import COMPILES as COMPILES
    from keras_mlff.backend.tensorflow import RUNS_EAGERLY as RUNS_EAGERLY
    from keras_mlff.backend.tensorflow import compiled as compiled
    from keras_mlff.backend.tensorflow import devices as devices
    from keras_mlff.backend.tensorflow import double_precision as double_precision
    from keras_mlff.backend.tensorflow import full_float32 as full_float32
    from keras_mlff.backend.tensorflow import global_sum as global_sum
    from keras_mlff.backend.tensorflow import peak_device_memory as peak_device_memory
    from keras_mlff.backend.tensorflow import predict_on_batch as predict_on_batch
    from keras_mlff.backend.tensorflow import predict_step as predict_step
    from keras_mlff.backend.tensorflow import prepare_data as prepare_data
    from keras_mlff.backend.tensorflow import replicas as replicas
    from keras_mlff.backend.tensorflow import run_once as run_once
    from keras_mlff.backend.tensorflow import segment_sum as segment_sum
    from keras_mlff.backend.tensorflow import test_step as test_step
    from keras_mlff.backend.tensorflow import train_step as train_step
    from keras_mlff.backend.tensorflow import value_and_gradient as value_and_gradient
elif keras.backend.backend() == "jax":
    from keras_mlff.backend.jax import COMPILES as COMPILES
    from keras_mlff.backend.jax import RUNS_EAGERLY as RUNS_EAGERLY
    from keras_mlff.backend.jax import compiled as compiled
    from keras_mlff.backend.jax import devices as devices
    from keras_mlff.backend.jax import double_precision as double_precision
    from keras_mlff.backend.jax import full_float32 as full_float32
    from keras_mlff.backend.jax import global_sum as global_sum
    from keras_mlff.backend.jax import peak_device_memory as peak_device_memory
    from keras_mlff.backend.jax import predict_on_batch as predict_on_batch
    from keras_mlff.backend.jax import predict_step as predict_step  # type: ignore[assignment]
    from keras_mlff.backend.jax import prepare_data as prepare_data
    from keras_mlff.backend.jax import replicas as replicas
    from keras_mlff.backend.jax import run_once as run_once
    from keras_mlff.backend.jax import segment_sum as segment_sum
    from keras_mlff.backend.jax import test_step as test_step  # type: ignore[assignment]
    from keras_mlff.backend.jax import train_step as train_step  # type: ignore[assignment]
    from keras_mlff.backend.jax import value_and_gradient as value_and_gradient
elif keras.backend.backend() == "torch":
    from keras_mlff.backend.torch import COMPILES as COMPILES
    from keras_mlff.backend.torch import RUNS_EAGERLY as RUNS_EAGERLY
    from keras_mlff.backend.torch import compiled as compiled
    from keras_mlff.backend.torch import devices as devices
    from keras_mlff.backend.torch import double_precision as double_precision
    from keras_mlff.backend.torch import full_float32 as full_float32
    from keras_mlff.backend.torch import global_sum as global_sum
    from keras_mlff.backend.torch import peak_device_memory as peak_device_memory
    from keras_mlff.backend.torch import predict_on_batch as predict_on_batch
    from keras_mlff.backend.torch import predict_step as predict_step
    from keras_mlff.backend.torch import prepare_data as prepare_data
    from keras_mlff.backend.torch import replicas as replicas
    from keras_mlff.backend.torch import run_once as run_once
    from keras_mlff.backend.torch import segment_sum as segment_sum
    from keras_mlff.backend.torch import test_step as test_step
    from keras_mlff.backend.torch import train_step as train_step
    from keras_mlff.backend.torch import value_and_gradient as value_and_gradient
else:
    raise ImportError(
        f"keras_mlff runs on TensorFlow, JAX and PyTorch. Received: the Keras backend "
        f"'{keras.backend.backend()}'. Set KERAS_BACKEND to tensorflow, jax or torch."
    )
