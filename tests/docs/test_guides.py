"""The Python code of the guides runs, each page as one program, and its types are right.

Code that is not to run stands after the comment `<!--- skip: next, "why" -->`. Names, links,
programs and recipes that pages name exist.
"""

import ast
import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from keras_mlff.experiments import recipes

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.stem for path in (DOCS / "guides").glob("add_*.md"))
SYBIL = Sybil([PythonCodeBlockParser(), SkipParser()], path=str(DOCS), pattern="**/*.md")
# what readers of the guides are to write
INVENTED = {"keras_mlff.datasets.salts.Salts", "keras_mlff.models.pair_net.PairNet"}

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the code is the same everywhere; runs on PyTorch"
)


def parse(page):
    return SYBIL.parse(DOCS / "guides" / f"{page}.md")


@pytest.mark.parametrize("page", PAGES)
def test_code_of_the_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = list(parse(page).examples())
    assert examples
    for example in examples:
        example.evaluate()


def test_code_of_the_guides_has_the_right_types(tmp_path):
    for page in PAGES:
        blocks = [example.parsed for example in parse(page).examples() if example.parsed]
        (tmp_path / f"{page}.py").write_text("\n\n".join(map(str, blocks)), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", DOCS.parent / "pyproject.toml"]
    checked = subprocess.run(
        [*command, *tmp_path.glob("*.py")],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def pages():
    """Lists what is written for readers, names by their path from the root."""
    root = DOCS.parent
    found = [root / "README.md", root / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in found}


def resolves(name):
    """Tells whether a dotted name is a module, or what a module or a class has."""
    first, *rest = name.split(".")
    value, so_far = importlib.import_module(first), first
    for part in rest:
        so_far = f"{so_far}.{part}"
        try:
            value = getattr(value, part)
        except AttributeError:
            try:  # a module that nobody has imported yet
                value = importlib.import_module(so_far)
            except ImportError:
                return False
    return True


def imported_names(block):
    """Yields the names that a block of code imports from the package."""
    for node in ast.walk(ast.parse(textwrap.dedent(block))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_names_of_the_package_exist():
    unknown = []
    for page, text in pages().items():
        names = {
            name
            for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            for name in imported_names(block)
        }
        names |= set(re.findall(r"`(keras_mlff(?:\.\w+)+)", text))
        wanted = {name for name in names if name.split(".")[0] == "keras_mlff"} - INVENTED
        unknown += [f"{page}: {name}" for name in sorted(wanted) if not resolves(name)]
    assert not unknown, unknown


def test_files_behind_links_exist():
    missing = []
    for page, text in pages().items():
        folder = (DOCS.parent / page).parent
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
            path = (folder / target).resolve()
            generated = path.parent == DOCS / "api" or path == DOCS / "guides" / "recipes.md"
            if "://" not in target and not generated and not path.exists():
                missing.append(f"{page}: {target}")
    assert not missing, missing


def test_programs_that_pages_name_exist():
    root = DOCS.parent
    missing = [
        f"{page}: {name}"
        for page, text in pages().items()
        for name in re.findall(r"\brecipes/(?:\w+/)*\w+\.(?:py|toml)\b", text)
        if name != "recipes/studies/NAME.py" and not (root / name).exists()
    ]
    assert not missing, missing


def test_commands_of_recipes_can_be_settled():
    wrong, found = [], 0
    texts = pages() | {"zoo/README.md": (DOCS.parent / "zoo/README.md").read_text("utf-8")}
    for page, text in texts.items():
        lines = text.replace("\\\n", " ")
        for command in re.findall(r"keras-mlff recipe (?:run|show) ([^`\n]+)", lines):
            name, *words = shlex.split(command, comments=True)
            if name not in recipes.available():  # a file, or a word in capitals
                continue
            given = {"--variant": [], "--set": []}
            place = []
            for word in words:
                place = given.get(word, []) if word.startswith("--") else place
                place += [] if word.startswith("--") else [word]
            found += 1
            try:
                overrides = recipes.parse_overrides(given["--set"])
                recipes.load(name).settle(given["--variant"], overrides)
            except (TypeError, ValueError) as error:
                wrong.append(f"{page}: {command}: {error}")
    assert found > 20
    assert not wrong, "\n".join(wrong)
