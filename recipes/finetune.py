"""Fine-tunes a preset on your own structures, whatever their level of theory.

Totals of two methods differ mostly by a constant per element; those are adapted first, so that the
network starts near the labels. With `--keep=readouts` everything but the readout is frozen, as in
the transfer of GeomAtt's table 2; new elements need their embedding trained too.

Run: python recipes/finetune.py --data=mine.xyz --preset=cmret/ch2 --output=my_preset
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from keras_mlff import cli, datasets, models
from keras_mlff.experiments import experiment
from keras_mlff.graph import elements


def main(
    data: str = "mine.xyz",
    preset: str = "cmret/ch2",
    output: str = "finetuned",
    keep: tuple[str, ...] = (),
    labels: tuple[str, ...] = ("energy", "forces"),
    energy_unit: str = "eV",
    length_unit: str = "Å",
    keys: dict[str, str] | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    energy_weight: float = 0.1,
    batch_size: int = 16,
    num_epochs: int = 100,
    learning_rate: float = 3e-4,
    seed: int = 0,
    num_nve_steps: int = 4000,
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Fine-tunes, reports test errors before and after, and writes a new preset.

    Args:
        data: Labeled file: .xyz, .npz, .db, .traj.
        preset: What to start from.
        output: Folder of the new preset; log and state stand beside it.
        keep: Parts that stay trainable, such as readouts; all where empty.
        labels: What is learned.
        energy_unit: Of the file.
        length_unit: Of the file.
        keys: Its names for labels where they differ, such as energy=REF_energy.
        validation_share: Of the structures, to choose the best weights.
        test_share: Of the structures, to be judged on.
        energy_weight: Of the energy's squared error beside that of other labels.
        batch_size: Structures per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak; lower than for a new model.
        seed: Of the split and the order.
        num_nve_steps: Of the dynamics on which the new preset's drift is measured.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    structures = datasets.load(
        data,
        labels=labels,
        energy_unit=energy_unit,
        length_unit=length_unit,
        keys=keys,
    )
    num_validation, num_test = (
        max(1, round(share * len(structures))) for share in (validation_share, test_share)
    )
    if len(structures) <= num_validation + num_test:
        raise ValueError(
            f"Nothing is left to learn from. Received: {len(structures)} structures, "
            f"validation_share={validation_share}, test_share={test_share}."
        )
    parts = experiment.random_parts(structures, num_validation, num_test, seed=seed)
    target = Path(output).expanduser().absolute()  # a name to add to, also of "out/" and "."
    model = models.load_preset(preset)
    about = model.preset.metadata
    unseen = sorted(set(elements(structures)) - set(model.preset.elements))
    if unseen:
        if keep and not any("embedding" in part for part in keep):
            raise ValueError(
                "The file has elements that the preset has not seen, whose embeddings would stay "
                f"at random. Received: elements {unseen}, keep={keep}. Leave --keep out, or let "
                "the embedding be trained too (--keep readouts embedding)."
            )
        print(f"elements that the preset has not seen and learns now: {unseen}")
    before = {} if unseen else experiment.judge(model, parts.test, labels)
    if keep:
        print(f"trainable: {model.freeze(keep=keep)}")
    results = experiment.run(
        model,
        parts,
        target.with_name(f"{target.name}.training"),
        loss=dict.fromkeys(labels, "mse"),
        loss_weights={label: energy_weight if label == "energy" else 1.0 for label in labels},
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        verbose=verbose,
        preset=target,
        num_nve_steps=num_nve_steps,
        description=f"Preset {preset}, fine-tuned on {data}.",
        dataset=data,
        recipe=cli.command(main, locals(), without=("output", "resume", "verbose")),
        license=about.get("license", ""),
        citation=about.get("citation", ""),
    )
    return {
        label: {**values, **({"test_mae_before": before[label]["test_mae"]} if before else {})}
        for label, values in results.items()
    }


if __name__ == "__main__":
    cli.run(main)
