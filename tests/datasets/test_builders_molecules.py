"""Builders of molecular data sets, from invented structures in the layouts of their sources."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("ase")


from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets import spice  # noqa: E402
from keras_mlff.datasets.tools import catalog  # noqa: E402
from tests.datasets import invented_molecules as invented  # noqa: E402


class Case(NamedTuple):
    name: str
    config: str
    write: Any
    splits: dict[str, int]
    energy: float  # eV, the highest in the split `split`
    force: float | None  # eV/Å, the largest component
    split: str = "train"


# 1 kcal/mol is 0.0433641 eV, 1 hartree 27.2114 eV, 1 hartree/bohr 51.4221 eV/Å
CASES = [
    Case("md17", "ethanol", invented.write_md17, {"train": 4}, -4.33641, 0.433641),
    Case(
        "md17",
        "ethanol_ccsd_t",
        invented.write_md17_coupled_cluster,
        {"train": 3, "test": 1},
        -4.33641,
        0.433641,
    ),
    Case(
        "md17",
        "ethanol_cmret",
        invented.write_md17_cmret,
        {"train": 2, "validation": 1, "test": 1},
        -4.37977,
        0.433641,
    ),
    Case("md22", "AT-AT", invented.write_md22, {"train": 2}, -4.33641, 0.433641),
    Case(
        "dna_fragments",
        "cg-cg",
        invented.write_dna_fragments,
        {"train": 3, "test": 1},
        -4.33641,
        0.433641,
    ),
    Case("rmd17", "aspirin", invented.write_rmd17, {"train": 4}, -4.33641, 0.433641),
    Case(
        "rmd17",
        "aspirin_02",
        invented.write_rmd17,
        {"train": 2, "test": 1},
        -4.37977,
        0.433641,
        "test",
    ),
    Case(
        "iso17",
        "dynamics",
        invented.write_iso17,
        {"train": 2, "validation": 1, "test_within": 1, "test_other": 2},
        -1001.0,
        1.0,
        "validation",
    ),
    Case(
        "iso17",
        "equilibrium",
        invented.write_iso17,
        {"reference": 1, "test": 1},
        -1000.0,
        None,
        "test",
    ),
    Case("qm7x", "all", invented.write_qm7x, {"train": 2}, -1051.0, 1.0),
    Case("qm7x", "equilibrium", invented.write_qm7x, {"train": 1}, -1051.0, 1.0),
    Case("des370k", "cbs", invented.write_des370k, {"train": 3}, -0.433641, None),
    Case("des370k", "small_basis", invented.write_des370k, {"train": 3}, -0.867282, None),
    Case("spice", "v2", invented.write_spice, {"train": 4}, -27.2114, 5.14221),
    Case("spice", "v2_water", invented.write_spice, {"train": 2}, -27.2114, 5.14221),
    Case(
        "three_bpa",
        "mixedT",
        invented.write_three_bpa,
        {"train": 2, "test_300K": 1, "test_600K": 1, "test_1200K": 1},
        -1000.0,
        1.0,
    ),
    Case(
        "acetylacetone",
        "300K",
        invented.write_acetylacetone,
        {"train": 2, "test_300K": 1, "test_600K": 1},
        -1000.0,
        1.0,
    ),
    Case(
        "acetylacetone",
        "paths",
        invented.write_acetylacetone_paths,
        {"dihedral": 1, "h_transfer": 2},
        -1000.0,
        None,
        "h_transfer",
    ),
    Case(
        "cumulene",
        "gnl",
        invented.write_cumulene,
        {"train": 2, "validation": 1, "test": 2, "test_11_12": 1, "test_15_16": 1},
        -1001.0,
        1.0,
        "test_11_12",
    ),
]
NAMES = sorted({case.name for case in CASES})
IDS = [f"{case.name}/{case.config}" for case in CASES]


class Builder(tfds.testing.DatasetBuilderTestCase):
    __test__ = False
    case: Case

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.case.write(Path(cls.EXAMPLE_DIR))
        cls.enterClassContext(invented.unpublished(cls.case.name))
        super().setUpClass()


def _test_case(case):
    members = {
        "__test__": True,
        "case": case,
        "DATASET_CLASS": catalog.builder_class(case.name),
        "BUILDER_CONFIG_NAMES_TO_TEST": (case.config,),
        "SPLITS": case.splits,
        "__module__": __name__,
    }
    return type(f"{case.name}_{case.config}_Test", (Builder,), members)


# one configuration of each: the test case takes a second or two
globals().update(
    {cls.__name__: cls for cls in map(_test_case, {case.name: case for case in CASES}.values())}
)


def prepare(case, tmp_path):
    manual = tmp_path / "manual"
    if not manual.exists():
        manual.mkdir()
        case.write(manual)
    return {"data_dir": str(tmp_path / "data"), "manual_dir": manual}


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.usefixtures("offline")
def test_values_are_the_source_s_times_the_factor(case, tmp_path):
    where = prepare(case, tmp_path)
    with invented.unpublished(case.name):
        graphs = datasets.load(f"{case.name}/{case.config}", case.split, **where)
    assert len(graphs) == case.splits[case.split]
    energies = [graph["energy"][0] for graph in graphs]
    np.testing.assert_allclose(max(energies), case.energy, rtol=1e-5)
    for graph in graphs:
        assert graph["atomic_numbers"].tolist() == invented.NUMBERS.tolist()
        np.testing.assert_allclose(graph["positions"], invented.positions(1)[0], atol=0.1)
        if case.force is None:
            assert "forces" not in graph
        else:
            np.testing.assert_allclose(graph["forces"].max(), case.force, rtol=1e-5)

    found = catalog.report_of(f"{case.name}/{case.config}", where["data_dir"])
    assert {name: report.num_structures for name, report in found.items()} == case.splits
    assert all(report.warnings == () for report in found.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("offline")
def test_missing_file_says_what_to_place_where(name, tmp_path):
    cls = catalog.builder_class(name)
    config = next(case.config for case in CASES if case.name == name)
    with pytest.raises(ValueError, match=r"no network.*place it as") as caught:
        catalog.read(f"{name}/{config}", "all", str(tmp_path))
    assert any(key in str(caught.value) for key in cls.SOURCES)
    assert any(source.url in str(caught.value) for source in cls.SOURCES.values())
    assert all(key in cls.MANUAL_DOWNLOAD_INSTRUCTIONS for key in cls.SOURCES)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.usefixtures("offline")
def test_damaged_file_is_named(case, tmp_path):
    where = prepare(case, tmp_path)
    for path in (path for path in where["manual_dir"].rglob("*.*") if path.is_file()):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if path.suffix == ".xyz":  # half a file may be whole frames
            path.write_text("3\nProperties=species:S:1:pos:R:3 energy=1\nC 0 0")
    with (
        invented.unpublished(case.name),
        pytest.raises(ValueError, match="is damaged or is not what it"),
    ):
        catalog.read(f"{case.name}/{case.config}", "all", **where)


@pytest.mark.parametrize("name", ["rmd17", "qm7x", "des370k", "spice"])
@pytest.mark.usefixtures("offline")
def test_published_checksums_are_compared(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(ValueError, match=r"is not the published one: .* instead of"):
        catalog.read(f"{name}/{case.config}", "all", **prepare(case, tmp_path))


@pytest.mark.usefixtures("offline")
def test_published_split_keeps_its_order(tmp_path):
    """Rows 3 and 0 of the trajectory, whose energies are -103 and -100 kcal/mol."""
    case = next(case for case in CASES if case.config == "aspirin_02")
    with invented.unpublished("rmd17"):
        graphs = catalog.read("rmd17/aspirin_02", "train", **prepare(case, tmp_path))
    energies = [graph["energy"][0] for graph in graphs]
    np.testing.assert_allclose(energies, [-4.46650, -4.33641], rtol=1e-5)


@pytest.mark.usefixtures("offline")
def test_charges_of_dimers_add_up(tmp_path):
    case = next(case for case in CASES if case.config == "cbs")
    with invented.unpublished("des370k"):
        graphs = catalog.read("des370k/cbs", "train", **prepare(case, tmp_path))
    assert sorted(graph["total_charge"][0] for graph in graphs) == [-1, 0, 1]


@pytest.mark.parametrize("config", ["cbs", "v2"])
@pytest.mark.usefixtures("offline")
def test_broken_structure_is_counted_and_the_rest_is_kept(config, tmp_path):
    case = next(case for case in CASES if case.config == config)
    where = prepare(case, tmp_path)
    with invented.unpublished(case.name):
        catalog.read(f"{case.name}/{config}", "train", **where)
    report = catalog.report_of(f"{case.name}/{config}", where["data_dir"])["train"]
    assert (report.num_structures, report.num_left_out) == (case.splits["train"], 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("xyz\n", "places\n", r"no columns \['xyz'\]"),
        ("-1,1,1", "-1,1,1,1,1", r"no CSV file .*line 3"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_damaged_table_is_named_with_its_line(old, new, message, tmp_path):
    case = next(case for case in CASES if case.config == "cbs")
    where = prepare(case, tmp_path)
    path = where["manual_dir"] / "DES370K.zip"
    with zipfile.ZipFile(path) as file:
        content = file.read("DES370K.csv").decode()
    assert old in content
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("DES370K.csv", content.replace(old, new, 1))
    with (
        invented.unpublished("des370k"),
        pytest.raises(ValueError, match=rf"DES370K.zip.*{message}"),
    ):
        catalog.read("des370k/cbs", "train", **where)


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("[H:1][O:2][H:3]", 0),
        ("[NH4+]", 1),
        ("[Ca++].[Cl-]", 1),
        ("[Mg+2:1].[O-2:2].[F-:3]", -1),
        ("[C@@H:4]([C:2](=[O:3])[O-:5])-[N+:1]", 0),
    ],
)
def test_charge_follows_from_smiles(smiles, charge):
    assert spice.formal_charge(smiles) == charge
