"""The named data sets in words: the table and the sections of docs/guides/datasets.md.

Written from the attributes of the builders, so that what is read is what is built:
`python -m keras_mlff.datasets.tools.guide docs/guides/datasets.md`.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from keras_mlff import datasets, quantities
from keras_mlff.datasets.tools.catalog import builder_class

BEGIN, END = "<!-- written by keras_mlff.datasets.tools.guide -->", "<!-- end -->"


def table() -> str:
    """Tabulates all named data sets in Markdown."""
    lines = [
        "| data set | structures | elements | labels | configurations, splits | license | from |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in datasets.NAMES:
        found = builder_class(name)
        cells = [
            f"[`{name}`](#{name})",
            found.STRUCTURES,
            found.ELEMENTS,
            ", ".join(labels(name)),
            configurations(name),
            found.LICENSE,
            _address(found.HOMEPAGE),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def configurations(name: str, most: int = 6) -> str:
    """Lists the first configurations of a data set and counts the others.

    Args:
        name: The name of the data set.
        most: How many configurations to name.
    """
    names = [config.name for config in builder_class(name).BUILDER_CONFIGS]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def labels(name: str) -> list[str]:
    """Lists the labels that the configurations of a data set have, without repetition."""
    configs = builder_class(name).BUILDER_CONFIGS
    return list(dict.fromkeys(label for config in configs for label in config.labels))


def section(name: str) -> str:
    """Describes a data set in Markdown: theory, labels and units, configurations, splits."""
    found = builder_class(name)
    lines = [f"## {name}", "", inspect.cleandoc(found.__doc__ or ""), ""]
    lines += [f"- Level of theory: {found.LEVEL_OF_THEORY}"]
    lines.append(f"- Labels: {'; '.join(_label(label) for label in labels(name))}")
    if found.REFERENCES:
        references = ", ".join(f"{z}: {energy:.3f}" for z, energy in found.REFERENCES.items())
        lines.append(f"- Energies of free atoms, by atomic number, eV: {references}")
    lines.append(f"- License: {found.LICENSE}")
    lines.append(f"- From: {_address(found.HOMEPAGE)}")
    lines += ["", "| configuration | what it is |", "| --- | --- |"]
    lines += [
        f"| `{name}/{config.name}` | {' '.join((config.description or '').split())} |"
        for config in found.BUILDER_CONFIGS
    ]
    return "\n".join(lines)


def text() -> str:
    """Writes the part of the guide between its marks: the table and a section for each data set."""
    sections = [section(name) for name in datasets.NAMES]
    return "\n\n".join([BEGIN, table(), *sections, END])


def update(page: str) -> str:
    """Replaces the part between the marks of a page.

    Args:
        page: The text of the page.

    Returns:
        The page as the builders have it today.

    Raises:
        ValueError: If the marks are missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page needs the lines '{BEGIN}' and '{END}'.")
    return before + text() + after


def _label(name: str) -> str:
    """Names a label with its unit, or says what it is where it has none."""
    quantity = quantities.get(name)
    about = quantity.unit or quantity.description
    return f"{name} ({about})" if about else name


def _address(homepage: str) -> str:
    """Makes a link of an address; other texts stay as they are."""
    return f"<{homepage}>" if homepage.startswith("http") else homepage


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(update(target.read_text("utf-8")), "utf-8")
