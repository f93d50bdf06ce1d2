"""Variants are chosen in three forms, and configs written before there were any still load."""

import dataclasses
import json

import pytest

from keras_mlff import models

SMALL = {"num_features": 8, "num_layers": 1, "cutoff": 3.0}
# arguments as constructors had them, the switches of the variant among them, and today's
BEFORE = {
    "CMRET": (
        {"charge_spin": "invariant_qs", "norm_mode": "component_shift", "residual_mlp": False},
        {
            "charge_spin_channels": "invariant_qs",
            "variant": {"norm_mode": "component_shift", "residual_mlp": False},
        },
    ),
    "DimeNetPP": (
        {"sbf_over_distance": True, "radial_factor": "kj", "rbf_embedding": "activated"},
        {"variant": "authors"},
    ),
    "EGNN": (
        {"species": [1, 6, 7, 8, 9], "num_inputs": None, "readout": "graph"},
        {"variant": "authors_qm9", "readout": "graph"},
    ),
    "GeomAtt": (
        {"stream_scaling": False, "d_max": 4.0},
        {"variant": "paper", "d_max": 4.0},
    ),
}


@pytest.mark.parametrize("name", BEFORE)
def test_configs_written_before_load(name):
    before, today = BEFORE[name]
    kind = models.ARCHITECTURES[name]
    expected = kind(**SMALL, **today, name="model").get_config()
    upgraded = kind.from_config({**SMALL, **before, "name": "model"})
    assert upgraded.get_config() == expected
    again = kind.from_config(json.loads(json.dumps(expected)))
    assert again.get_config() == expected


@pytest.mark.parametrize("name", BEFORE)
def test_a_variant_is_a_name_an_object_or_a_dict(name):
    kind = models.ARCHITECTURES[name]
    field = dataclasses.fields(kind.Variant)[-1].name
    for given in ("default", kind.Variant(), {field: getattr(kind.Variant(), field)}):
        assert kind(**SMALL, variant=given).variant == kind.VARIANTS["default"]
    with pytest.raises(ValueError, match="'default'"):
        kind(**SMALL, variant="theirs")
    with pytest.raises(ValueError, match=f"'switch'.*'{field}'"):
        kind(**SMALL, variant={"switch": 1})
    with pytest.raises(TypeError, match="variant=3"):
        kind(**SMALL, variant=3)


@pytest.mark.parametrize("value", ["invariant", {}, 1, None])
@pytest.mark.parametrize("option", ["charge_spin", "element_affine", "variant"])
def test_flags_are_true_or_false(option, value):
    """Text, such as an old name of CMRET's option, was taken for True once."""
    field = next(f.name for f in dataclasses.fields(models.EGNN.Variant) if f.type == "bool")
    given = {"variant": {field: value}} if option == "variant" else {option: value}
    with pytest.raises(TypeError, match=rf"True or False. Received: .*{value!r}"):
        models.EGNN(**SMALL, **given)
    with pytest.raises(TypeError, match="charge_spin='invariant'"):
        models.CMRET(**SMALL, charge_spin="invariant")


def test_an_architecture_without_a_port_says_so(pair_net):
    with pytest.raises(NotImplementedError, match="whose weights PairNet could take over"):
        pair_net.from_port({}, {})
