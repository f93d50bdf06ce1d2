"""Dynamics and relaxation in loops that are compiled with the model inside, on every backend."""
