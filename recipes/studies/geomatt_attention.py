"""Draws the attention of a GeomAtt and compares it with bonds, for the card of a preset (figure 5).

Run: python recipes/studies/geomatt_attention.py --preset=zoo/geomatt/md17_benzene
    --variants file --settings file=md17_benzene.npz data.split.training=cmret_train
    data.split.test=cmret_test
"""

from __future__ import annotations

from keras_mlff import cli, models, plots, publish
from keras_mlff.experiments import recipes
from keras_mlff.experiments.data import load


def main(
    preset: str, variants: tuple[str, ...] = (), settings: tuple[str, ...] = ()
) -> dict[str, tuple[float, float]]:
    """Adds `attention.png` to the folder and the card of a preset.

    Args:
        preset: Folder of a preset that the recipe `geomatt_md17` made.
        variants: Variants of the recipe, such as "file".
        settings: Settings of the recipe that say which data it was, such as `molecule=benzene`.

    Returns:
        Mean and deviation of the area under the ROC curve by layer; see `plots.draw_attention`.
    """
    recipe = recipes.load("geomatt_md17").settle(variants, recipes.parse_overrides(settings))
    test = load(recipe.data, seed=recipe.training.seed).parts.test[:50]
    figure, areas = plots.draw_attention(models.load_preset(preset), test)
    text = ", ".join(f"{name} {mean:.2f} ± {spread:.2f}" for name, (mean, spread) in areas.items())
    publish.add_figure(
        preset,
        "attention.png",
        figure,
        "Sizes of the attention coefficients of a test frame beside its distances; bonds are "
        f"circled. Area under the ROC curve of finding bonds, mean and deviation over {len(test)} "
        f"test frames: {text}. Nearness ranks pairs by distance alone.",
    )
    return areas


if __name__ == "__main__":
    cli.run(main)
