"""The command `keras-mlff`, and `run`, which turns a program's `main` into a command.

Everything here parses, calls one function and prints. Frameworks are imported when a command needs
them, so that help and `doctor` work where they do not.
"""

from keras_mlff.cli.parser import main as main
from keras_mlff.cli.program import run as run
