"""The sections of a recipe as frozen dataclasses: what may be written, its type and its default.

A recipe is a TOML file. At its top stand `description`, `citation`, `parameters` (names whose
values replace `{name}` in every text of the file) and `extends` (another recipe that this one is
laid over); below that one table for each class of this module:

    [model]     class = "CMRET" and the arguments of its constructor, or preset = "cmret/ch2"
    [data]      source, split and sizes of the parts, units and names of files
    [offsets]   what is added outside of the network: fitted, adapted, given, or left as it is
    [training]  labels, loss, optimizer, schedule, epochs, callbacks, what is frozen
    [report]    units of the errors, published errors, plots
    [preset]    what the card of the preset says
    [quantities.NAME]  a label that the package does not know: level, shape, unit, as
                `keras_mlff.quantities.register` takes them
    [variants.NAME.SECTION]  changes, laid over the rest by `--variant NAME`

Where a key takes a thing with arguments (a loss, an optimizer, a schedule, a callback), it is a
name, `"adam"`, or a table whose key `kind` is the name: `{ kind = "AdamW", weight_decay = 0.01 }`.
A variant that changes the `kind` replaces the whole table; other tables are merged.

Example:
    description = "CMRET on one molecule of MD17."
    parameters = { molecule = "toluene" }
    [model]
    class = "CMRET"
    num_features = 128
    [data]
    source = "md17/{molecule}"
    split = { training = "train[:1000]", validation = "train[1000:1200]", test = "train[1200:]" }
    [training]
    loss = { energy = "mse", forces = "mse" }
    loss_weights = { energy = 0.2, forces = 0.8 }
    [report]
    units = { energy = "kcal/mol", forces = "kcal/mol/Å" }
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_mlff.datasets.tools import splits

Named = str | dict[str, Any]  # a name, or a table with the name as `kind` and arguments
PARTS = ("training", "validation", "test")
DEFAULT_WEIGHTS = {"energy": 0.2, "forces": 0.8}  # eq. 15 of CMRET; 1 for anything else


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """What is trained: a new model, or a preset that is trained further. Section `[model]`.

    Every other key of the section is an argument of the constructor, such as `num_features = 64`;
    with a preset it replaces the preset's own argument.

    Attributes:
        class_name: Written `class`: an architecture, such as `"CMRET"`, or the import path
            `"package.module:Class"` of one that is not part of this package.
        preset: Instead of `class`: the name or the folder of a preset whose weights the training
            starts from.
        heads: What is predicted: names of quantities (`"energy"`, `"dipole"`) or tables with the
            class of a head and its arguments (`{ class = "ScalarHead", name = "gap" }`). Heads of
            which nothing is learned are left out. Where empty, one head for each label.
        arguments: Of the constructor, collected from the other keys. The text `"None"` is Python's
            `None`, which TOML does not have.
    """

    class_name: str = ""
    preset: str = ""
    heads: tuple[str | dict[str, Any], ...] = ()
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where structures come from and which parts they form. Section `[data]`.

    Attributes:
        source: A named data set (`"rmd17/aspirin"`) or a file (`"md.xyz"`); several are joined
            part by part.
        split: By part (`training`, `validation`, `test`) the split that it is taken from, such as
            `"train[:1000]"`. A part without one is drawn from the split of `training`, which is
            `"all"` where nothing is said.
        sizes: By part how many structures are drawn at random: a number, a share of all between 0
            and 1 (at least one structure), or -1 for the rest, which is the default of a part that
            has a split and of `training`. Parts of one split are drawn in the order that is
            written here, training last, and do not change with the sizes of later ones. Validation
            and test have a tenth each where neither split, file nor size says anything.
        seed: Of the drawing; that of the training where -1.
        validation_file: A file or data set that validation is taken from instead of `source`.
        test_file: The same for the test.
        labels: What every structure of a file must have; the labels that are learned where empty.
        energy_unit: Of files: what they state, else eV, where empty.
        length_unit: Of files: what they state, else Å, where empty.
        stress_unit: Of files: energy over length³ where empty; GPa or kbar.
        stress_sign: Of files: -1 where stresses are positive under pressure, as VASP's are.
        keys: The names that files have for labels, `{ energy = "REF_energy" }`.
        data_dir: The folder of TensorFlow Datasets, if not its usual one.
        manual_dir: The folder of source files that were placed by hand.
        largest_force: eV/Å; structures with a larger force component take no part. 0 keeps all.
        within: A split; only structures that it holds take part.
        known_elements: Whether validation and test leave structures out that have elements which
            the training lacks.
        join: Further sections of this kind, `[[data.join]]`, whose parts are added to these: data
            of other units, names or splits.
    """

    source: str | tuple[str, ...] = ""
    split: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, int | float] = dataclasses.field(default_factory=dict)
    seed: int = -1
    validation_file: str = ""
    test_file: str = ""
    labels: tuple[str, ...] = ()
    energy_unit: str = ""
    length_unit: str = ""
    stress_unit: str = ""
    stress_sign: int = 1
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    data_dir: str = ""
    manual_dir: str = ""
    largest_force: float = 0.0
    within: str = ""
    known_elements: bool = False
    join: tuple[DataSettings, ...] = ()

    def __post_init__(self) -> None:
        _check_numbers(self, seed=-1, largest_force=0)
        for key, table in (("split", self.split), ("sizes", self.sizes)):
            unknown = sorted(set(table) - set(PARTS))
            if unknown:
                raise ValueError(f"`{key}` is of {list(PARTS)}. Received: {unknown} in {key}.")
        for split in (*self.split.values(), self.within or "all"):
            splits.terms(split)
        for part, size in self.sizes.items():
            if not (size == -1 or 0 <= size < 1 or (size >= 1 and size == int(size))):
                raise ValueError(
                    "A size is a number of structures, a share below 1, or -1 for the rest. "
                    f"Received: sizes={{'{part}': {size}}}."
                )


@dataclasses.dataclass(frozen=True)
class OffsetSettings:
    """What is added outside of the network. Section `[offsets]`.

    Attributes:
        kind: `"fit"` finds a value for each element, a shift and a scale from the training part;
            `"adapt"` moves those of a preset to the new labels; `"keep"` leaves those of the model.
            Where empty, new models are fitted and presets adapted.
        references: By head, energies of free atoms by chemical symbol that are known, in the unit
            of the property (eV): `{ energy = { H = -13.6, O = -2043.9 } }`. They replace fitted
            ones; an empty table removes these.
        isolated_atoms: Whether frames of single atoms that a file calls `IsolatedAtom` (the key
            `config_type` of extended XYZ) give the energies of free atoms. They take no part in
            the training.
        standardize: Whether the mean of what references leave of a label becomes the shift, and
            its mean absolute deviation the scale, for every head.
    """

    kind: str = ""
    references: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    isolated_atoms: bool = True
    standardize: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("", "fit", "adapt", "keep"):
            raise ValueError(f"`kind` is fit, adapt or keep. Received: kind='{self.kind}'.")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a model is trained; `keras_mlff.train` takes its attributes. Section `[training]`.

    Attributes:
        labels: What is learned. Where empty, the labels that `loss` names or, where it is one name
            for all, those of the heads.
        loss: A loss for each label, or one for all: names or tables of Keras losses and of those
            in `keras_mlff.fit` (`{ kind = "PerAtom", loss = "mae" }`, `"L2Norm"`).
        loss_weights: A factor for each label; 0.2 for energies, 0.8 for forces and 1 for others
            where not given. Pairs of epoch and factor, `[[0, 0.1], [100, 1.0]]`, change it
            linearly. `"spread"`, for a label or for all, makes labels count the same whatever
            their size: one over the number of labels and the mean absolute deviation of what the
            offsets leave of it.
        optimizer: Of Keras; arguments such as `global_clipnorm` in the table.
        learning_rate: Where the schedule begins or, with a warm-up, its peak.
        schedule: `"warmup_cosine"`, `"cosine"`, `"constant"`, `"exponential"`, `"plateau"`,
            `"triangular"` or another of `keras_mlff.fit.schedules`, or of Keras.
        averages: Whether validation, the best weights and the preset are exponential averages of
            the weights over the last twentieth of the training at most; or their momentum. False
            uses the weights as they are.
        batch_size: Graphs in each step, per device.
        num_epochs: In all, those before a resumption included.
        seed: Of weights, parts and order.
        patience: Validations without improvement after which the training stops; 0 never stops it.
        monitor: What decides which weights are best; where empty, the loss of the validation
            without what layers add to it.
        validation_freq: Epochs between two validations.
        freeze: Parts of the model whose weights stay, such as `"embedding"`.
        keep: Parts that are trained while all others stay, such as `"readouts"`.
        callbacks: `"tensorboard"`, `"wandb"`, `"early_stopping"`, another callback of Keras by
            class, or the import path `"package.module:Class"`; tables have arguments.
        devices: Devices that share each step: their names, or `"all"`; one where empty.
        save_steps: Steps between two writes of the state; 0 writes it about every 30 seconds.
    """

    labels: tuple[str, ...] = ()
    loss: Named | dict[str, Named] = dataclasses.field(
        default_factory=lambda: {"energy": "mse", "forces": "mse"}
    )
    loss_weights: str | dict[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: Named = dataclasses.field(
        # epsilon: as in papers' programs; late gradients are below Keras's 1e-7
        default_factory=lambda: {"kind": "Adam", "epsilon": 1e-8, "global_clipnorm": 1.0}
    )
    learning_rate: float = 1e-3
    schedule: Named = "warmup_cosine"
    averages: bool | float = True
    batch_size: int = 16
    num_epochs: int = 100
    seed: int = 0
    patience: int = 0
    monitor: str = ""
    validation_freq: int = 1
    freeze: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    callbacks: tuple[Named, ...] = ()
    devices: str | tuple[str, ...] = ()
    save_steps: int = 0

    def __post_init__(self) -> None:
        _check_numbers(
            self, batch_size=1, num_epochs=1, validation_freq=1, seed=0, patience=0, save_steps=0
        )
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"A rate is above 0. Received: learning_rate={self.learning_rate}.")
        if not 0.0 <= self.averages <= 1.0 or (self.averages == 1.0 and self.averages is not True):
            raise ValueError(
                "Averages are true, false, or a momentum below 1. Received: "
                f"averages={self.averages}."
            )
        if self.seed >= 2**32:
            raise ValueError(f"NumPy takes seeds below 2**32. Received: seed={self.seed}.")


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """How errors are reported. Section `[report]`.

    Attributes:
        units: By label the unit that errors are printed in, `{ energy = "meV", forces = "meV/Å" }`;
            this package's where not given. `energy_per_atom` reports that error too.
        published: By paper and label, errors to print beside ours, in those units.
        published_for: Which number to take where `published` has a table of several for a label:
            `"{molecule}"`. A table without it says nothing.
        plots: Whether the learning curve and predictions against labels are drawn, where
            Matplotlib is installed.
    """

    units: dict[str, str] = dataclasses.field(default_factory=dict)
    published: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    published_for: str = ""
    plots: bool = True


@dataclasses.dataclass(frozen=True)
class CardSettings:
    """What the card of the preset says beside what is measured. Section `[preset]`.

    Attributes:
        description: One sentence on what the model knows; that of the recipe where empty.
        dataset: What it learned from; source, splits and sizes where empty.
        level_of_theory: Of the labels, `"PBE+TS"`.
        license: Of the weights.
        notes: Whole sentences on what a user has to know.
        num_nve_steps: Steps of the dynamics on which the drift of the energy is measured; 0 leaves
            them out.
    """

    description: str = ""
    dataset: str = ""
    level_of_theory: str = ""
    license: str = ""
    notes: tuple[str, ...] = ()
    num_nve_steps: int = 4000

    def __post_init__(self) -> None:
        _check_numbers(self, num_nve_steps=0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training from data to preset, everything settled: variants, overrides and parameters.

    Attributes:
        description: One sentence, for `keras-mlff recipe list`.
        citation: The paper.
        model: What is trained.
        data: On what.
        offsets: What is added outside of the network.
        training: How.
        report: How errors are shown.
        preset: What the card says.
        quantities: Labels that the package does not know, by name.
    """

    description: str = ""
    citation: str = ""
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    offsets: OffsetSettings = dataclasses.field(default_factory=OffsetSettings)
    training: Settings = dataclasses.field(default_factory=Settings)
    report: ReportSettings = dataclasses.field(default_factory=ReportSettings)
    preset: CardSettings = dataclasses.field(default_factory=CardSettings)
    quantities: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def _check_numbers(settings: Any, **least: int) -> None:
    """Refuses numbers below the least that has a meaning."""
    for name, bound in least.items():
        given = getattr(settings, name)
        if not bound <= given < math.inf:
            raise ValueError(f"`{name}` is at least {bound}. Received: {name}={given}.")
