"""Lets `python -m keras_mlff.cli` do what `keras-mlff` does."""

import sys

from keras_mlff.cli import main

if __name__ == "__main__":
    sys.exit(main())
