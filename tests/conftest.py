"""Settings and fixtures of every test; imported before Keras, which reads its own only once."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# JAX compiles a network once for all tests and workers, and not at all in the next run
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: one thread for each
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",  # tests compile much and compute little
    )

import keras
import pytest

# What does not depend on the backend runs once: TensorFlow prepares data sets, whatever Keras
# computes with; recipes and comparisons with formulas run where nothing is compiled, on models that
# golden vectors and the contract test everywhere
collect_ignore_glob = []
if keras.backend.backend() != "tensorflow":
    collect_ignore_glob += ["datasets/test_builders_*.py", "datasets/test_preparation.py"]
    collect_ignore_glob += ["pipeline/test_streaming.py", "test_cli_data.py"]
if keras.backend.backend() != "torch":
    collect_ignore_glob += ["recipes/*", "models/test_*_formulas.py", "models/*/test_*_formulas.py"]
    collect_ignore_glob += ["experiments/test_run.py", "experiments/test_command_line.py"]
    collect_ignore_glob += ["experiments/test_study.py"]
    # NumPy and files alone
    collect_ignore_glob += ["datasets/test_files.py", "datasets/test_load.py"]
    collect_ignore_glob += ["datasets/test_reading.py", "fuzz/*"]
    collect_ignore_glob += ["datasets/test_guide.py", "datasets/test_splits.py"]
    collect_ignore_glob += ["test_graph.py", "test_neighbors.py", "test_saving.py"]
    collect_ignore_glob += ["test_tables.py", "test_units.py", "docs/*", "testing/*"]
    collect_ignore_glob += ["test_command_lines.py", "test_mutants.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if keras.backend.backend() != "torch":
        items[:] = [item for item in items if not item.get_closest_marker("once")]


def pytest_report_header() -> str:
    return f"keras backend: {keras.backend.backend()}"


@pytest.fixture(autouse=True)
def seed() -> None:
    """Gives each test the same weights, whichever tests ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def quantities() -> Iterator[None]:
    """Forgets the quantities that a test, or a model in it, makes known."""
    from keras_mlff import quantities

    before = quantities.known().keys()
    yield
    for name in quantities.known().keys() - before:
        quantities.unregister(name)


@pytest.fixture
def float64() -> Iterator[str]:
    """Gives the dtype's name and lets operations outside of models hold it, in this test alone."""
    from keras_mlff import backend

    with backend.double_precision():
        yield "float64"


@pytest.fixture(scope="session")
def pair_net() -> type:
    """Gives a force field small enough to be compiled in a second."""
    from tests.core.pair_net import PairNet

    return PairNet
