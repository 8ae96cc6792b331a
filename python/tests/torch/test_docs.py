"""The code of pages that need torch, and more."""

from pathlib import Path

import pages
import pytest
from conftest import require

for package in ("torch", "safetensors", "transformers"):
    require(package)


@pytest.mark.parametrize("name", pages.names(wanted=True))
def test_the_code_of_a_page_runs(name: str, tmp_path: Path) -> None:
    pages.run(pages.ROOT / name, tmp_path)
