"""The code of pages that need no more than numpy."""

import shutil
from pathlib import Path

import pages
import pytest
from conftest import require

require("numpy")
require("safetensors")


@pytest.mark.parametrize("name", pages.names(wanted=False))
def test_the_code_of_a_page_runs(name: str, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    if "model_signing" in pages.imports(pages.ROOT / name):
        require("model_signing")
    if name.endswith("README.md"):
        _as_a_readme_has_it(tmp_path, keys)
    pages.run(pages.ROOT / name, tmp_path)


def _as_a_readme_has_it(folder: Path, keys: tuple[Path, Path]) -> None:
    """What its shell lines have made by then: keys, and a model."""
    for key in keys:
        shutil.copy(key, folder)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "toy"}')


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.name)
def test_no_mark_is_misspelt(page: Path) -> None:
    wrong = [line for line in page.read_text().splitlines() if pages.marked(line)]
    assert wrong == []


def test_the_index_of_pages_leads_to_all_of_them() -> None:
    index = (pages.ROOT / "docs" / "python.md").read_text()
    for page in (pages.ROOT / "docs").glob("python-*.md"):
        assert f"({page.name}" in index, f"docs/python.md does not lead to {page.name}"


def test_blocks_are_found_where_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n```python\na = 1\n```\n```python notest\nraise\n```\n```sh run\ntouch b\n```\n```sh\nfalse\n```\n```python\nimport torch\n```\n")
    assert [(block.language, block.line) for block in pages.blocks(page)] == [("python", 3), ("sh", 9), ("python", 15)]
    assert pages.heavy(page)
    assert pages.marked("```python  notests") and not pages.marked("```python notest")


def test_a_page_that_fails_is_seen_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```python\nimport os\n```\n\n```python\nassert not os.listdir()\nraise KeyError('here')\n```\n")
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(AssertionError, match=r'"page.md", line 9(.|\n)*here'):
        pages.run(page, folder)
