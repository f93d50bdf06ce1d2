"""The contracts find what is broken, and say so."""

import keras
import pytest
from keras import ops

from keras_mlff import heads, models, testing
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.ops import segment
from keras_mlff.quantities import Quantity

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="what the contracts find does not depend on it"
)


class BrokenNet(models.ForceField):
    """Knows where the origin is, jumps at the cutoff and lets padding count."""

    has_attention = False

    def __init__(self, num_features=4, num_layers=1, **kwargs):
        super().__init__(**kwargs)
        self.num_features = num_features
        self.embedding = keras.layers.Embedding(119, num_features)

    def embed(self, graph, training=False):
        features = self.embedding(graph["atomic_numbers"])
        features = self.with_charge_spin(features, graph)
        sent = ops.take(features, graph["senders"], axis=0)
        features = features + segment.sum_over_edges(sent, graph)
        return AtomFeatures(features * ops.sum(graph["positions"], axis=-1, keepdims=True))


def test_a_broken_architecture_is_told_what_it_breaks():
    with pytest.raises(AssertionError) as found:
        testing.check_architecture(BrokenNet)
    report = str(found.value)
    for claim in (
        "forces_turn_with_the_molecule",
        "only_relative_positions_matter",
        "nothing_jumps_at_the_cutoff",
        "crystals_turn_shift_and_wrap",
    ):
        assert f"failed: {claim}" in report
    assert "failed: the_order_of_atoms_does_not_matter" not in report


HEADS = [
    heads.EnergyHead(),
    heads.ScalarHead("gap", pooling="mean"),
    heads.ScalarHead("U0"),
    heads.DipoleHead(),
    heads.PolarizabilityHead(),
    heads.SpatialExtentHead(),
    heads.AtomicHead("partial_charges", total="total_charge"),
    heads.AtomicHead("hirshfeld_ratios"),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{type(head).__name__}-{head.name}")
def test_every_head_keeps_the_contract(head):
    report = testing.check_head(head)
    assert len(report.passed) >= 6


class OriginHead(heads.Head):
    """Depends on where the molecule lies and sums padding too."""

    @property
    def outputs(self):
        return (Quantity(self.name, "structure", (3,), self.unit),)

    def __call__(self, graph, scalars, vectors):
        moments = scalars[:, :1] + 1.0 + 0.0 * graph["positions"]
        return {self.name: segment.sum_over_atoms(moments, graph)}


def test_a_broken_head_is_told_what_it_breaks():
    with pytest.raises(AssertionError, match="failed: values_turn_with_the_structure"):
        testing.check_head(OriginHead("dipole"))


def test_a_data_set_keeps_the_contract_or_is_told_what_it_breaks(monkeypatch):
    catalog = pytest.importorskip("keras_mlff.datasets.tools.catalog")
    report = testing.check_dataset(catalog.builder_class("ch2"), config="triplet")
    assert "invented_files_are_built_twice_alike" in report.passed
    unlicensed = catalog.builder_class("rmd17")
    monkeypatch.setattr(unlicensed, "LICENSE", "")
    with pytest.raises(AssertionError) as found:
        testing.check_dataset(unlicensed)  # without its files
    assert "RMD17.LICENSE says nothing" in str(found.value)
    assert "failed: invented_files_are_built_twice_alike" in str(found.value)
