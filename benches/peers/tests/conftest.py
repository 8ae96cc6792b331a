"""The harness is a folder of modules beside a script: the tests import them as the script does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
