"""The arguments of a run of dynamics, checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from keras_mlff import units
from keras_mlff.graph import Array
from keras_mlff.md.engine.ensembles import ENSEMBLES, Ensemble
from keras_mlff.md.engine.systems import System


@dataclasses.dataclass(frozen=True)
class Settings:
    """The arguments of a run, in its units; see `simulate`."""

    ensemble: str
    time_step: float
    num_steps: int
    interval: int
    temperatures: Array  # (num_steps,), K
    pressure: float
    friction: float
    thermostat_time: float
    barostat_time: float
    compressibility: float
    seed: int
    skin: float
    max_temperature: float

    @property
    def kind(self) -> Ensemble:
        """What the ensemble's name stands for."""
        return ENSEMBLES[self.ensemble]

    @property
    def numbers(self) -> dict[str, Array]:
        """What the step reads, in units of the package."""
        fs = units.femtosecond
        numbers = {
            "time_step": self.time_step * fs,
            "friction": self.friction / fs,
            "thermostat_time": self.thermostat_time * fs,
            "barostat_time": self.barostat_time * fs,
            "pressure": self.pressure * units.gigapascal,
            "compressibility": self.compressibility / units.gigapascal,
        }
        return {key: np.asarray(value) for key, value in numbers.items()}


def temperatures_of(temperature: float | npt.ArrayLike, num_steps: int) -> Array:
    """Returns the temperature of each step, K: `(num_steps,)`, of what `simulate` takes."""
    given, num_steps = np.asarray(temperature, np.float64), max(num_steps, 1)
    if given.ndim == 0:
        return np.full(num_steps, float(given))
    if given.shape == (2,):
        return np.linspace(given[0], given[1], num_steps)
    if given.shape != (num_steps,):
        raise ValueError(
            "`temperature` is a number, the two ends of a ramp, or one for each step. Received: "
            f"an array of shape {given.shape} for {num_steps} steps."
        )
    return given


def check(settings: Settings) -> None:
    """Refuses settings without sense, each named as the argument that it is."""
    if settings.ensemble not in ENSEMBLES:
        raise ValueError(
            f"`ensemble` is one of {list(ENSEMBLES)}. Received: ensemble='{settings.ensemble}'."
        )
    bounds = {"num_steps": 0, "interval": 1, "friction": 0.0, "skin": 0.0}
    above = ("time_step", "thermostat_time", "barostat_time", "compressibility", "max_temperature")
    for name in (*bounds, *above, "pressure"):
        value = getattr(settings, name)
        whole = name in ("num_steps", "interval")
        low = name in bounds and value < bounds[name]
        if (
            not np.isfinite(value)
            or low
            or (name in above and value <= 0.0)
            or (whole and value != int(value))
        ):
            if name == "max_temperature" and value == np.inf:
                continue
            raise ValueError(
                f"`{name}` is {'a whole' if whole else 'a finite'} number"
                f"{' above 0' if name in above else ''}"
                f"{f' of at least {bounds[name]}' if name in bounds else ''}. "
                f"Received: {name}={value}."
            )
    temperatures = settings.temperatures
    thermal = settings.kind.thermostat is not None
    if (
        not np.all(np.isfinite(temperatures))
        or np.any(temperatures < 0.0)
        or (thermal and np.any(temperatures == 0.0))
    ):
        raise ValueError(
            f"A temperature is {'above' if thermal else 'at least'} 0 K. Received: temperature="
            f"{temperatures.min()} to {temperatures.max()}."
        )


def check_cell(system: System) -> None:
    """Refuses systems on which a pressure cannot act."""
    if not np.all(system.atoms.pbc) or system.fixed.any():
        raise ValueError(
            "Constant pressure needs a cell that is periodic in all directions, and no fixed "
            f"atoms. Received: pbc={system.atoms.pbc.tolist()}, {int(system.fixed.sum())} fixed."
        )
