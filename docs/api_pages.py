"""Writes pages from docstrings: one for each room of the package, and the list of recipes.

Reference: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_mlff"


def rooms() -> list[str]:
    """Lists the rooms that exist, in the order in which they build on each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    names = re.findall(r"\w+", " ".join(reversed(contract["layers"])))
    return [
        name
        for name in names
        if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name / "__init__.py").exists()
    ]


def modules(room: str) -> Iterator[str]:
    """Yields the public modules of a room; a package's own page part is its first."""
    yield f"keras_mlff.{room}"
    for path in sorted((PACKAGE / room).rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            if len(parts) > 2:  # a room inside of the room
                yield ".".join(["keras_mlff", *parts[:-1]])
        elif not parts[-1].startswith("_"):
            yield ".".join(["keras_mlff", *parts])


def page(room: str) -> str:
    """Writes the Markdown of a room's page."""
    is_package = (PACKAGE / room).is_dir()
    lines = [f"# {room}", ""]
    file = PACKAGE / f"{room}.py"
    if file.exists() and not re.search(r"^(def|class) ", file.read_text("utf-8"), re.MULTILINE):
        return "\n".join([*lines, "```python", file.read_text("utf-8"), "```"])  # constants
    for module in modules(room):
        lines += [f"::: {module}", ""]
        if is_package and module == f"keras_mlff.{room}":
            # what it holds is imported from the modules below
            lines[-1:] = ["    options:", "      members: false", ""]
        elif room == "graph":
            # its keys stand in the text of the class, which is shown where `__init__` is not
            lines[-1:] = ["    options:", "      merge_init_into_class: false", ""]
    return "\n".join(lines)


def recipes() -> str:
    """Writes the Markdown of the list of recipes, and of the programs beside them."""
    root = ROOT / "recipes"
    lines = ["# Recipes", "", "Files of settings that come with the package, see"]
    lines += ["[Train a model](train.md): `keras-mlff recipe run NAME` trains as one says,"]
    lines += ["`keras-mlff recipe show NAME` prints it with its comments.", ""]
    lines += ["| recipe | what it trains | variants |", "|---|---|---|"]
    for path in sorted(root.glob("*.toml")):
        table = tomllib.loads(path.read_text("utf-8"))
        if path.name.startswith("_"):  # what several recipes have in common
            continue
        variants = ", ".join(f"`{name}`" for name in table.get("variants", {}))
        described = table["description"].format_map(table.get("parameters", {}))
        lines.append(f"| `{path.stem}` | {described} | {variants} |")
    for folder, title in (("studies", "Studies"), ("generate", "Programs that compute data")):
        lines += ["", f"## {title}", "", f"Programs in `recipes/{folder}/` of the repository;"]
        lines += [f"`python recipes/{folder}/NAME.py --help` lists the settings of each.", ""]
        lines += ["| program | what it does |", "|---|---|"]
        for path in sorted((root / folder).glob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            first = text.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            lines.append(f"| `{path.name}` | {first} |")
    return "\n".join([*lines, ""])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages to the navigation."""
    config.nav = [*(config.nav or []), {"API": [f"api/{room}.md" for room in rooms()]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages themselves."""
    files.append(File.generated(config, "guides/recipes.md", content=recipes()))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=page(room)))
    return files
