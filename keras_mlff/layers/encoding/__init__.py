"""Learned encodings of distances and angles: one number becomes several.

`table` looks numbers up between knots, `perceptron` computes them, `smoothness` is the loss that
keeps neighboring knots similar, `options` reads what architectures take as `distance_encoding`, and
`ranges` fits the ends of tables to data.

Reference: https://arxiv.org/abs/2211.12773
"""

from keras_mlff.layers.encoding.options import make_encoding as make_encoding
from keras_mlff.layers.encoding.options import parse_encoding as parse_encoding
from keras_mlff.layers.encoding.perceptron import PerceptronEncoding as PerceptronEncoding
from keras_mlff.layers.encoding.ranges import fit_ranges as fit_ranges
from keras_mlff.layers.encoding.smoothness import Smoothness as Smoothness
from keras_mlff.layers.encoding.smoothness import smoothness_loss as smoothness_loss
from keras_mlff.layers.encoding.table import PositionalEncoding as PositionalEncoding
