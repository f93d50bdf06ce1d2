"""Trainings from data to preset."""
