"""The Python code of the guides runs, each page as one program, and its types are right.

Code that is not to run stands after the comment `<!--- skip: next, "why" -->`.
"""

import subprocess
import sys
from pathlib import Path

import keras
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.stem for path in (DOCS / "guides").glob("add_*.md"))
SYBIL = Sybil([PythonCodeBlockParser(), SkipParser()], path=str(DOCS), pattern="**/*.md")

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
