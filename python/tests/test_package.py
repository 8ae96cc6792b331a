"""The package as a whole: its public names."""

import ast
import subprocess
import sys
from pathlib import Path

import tensorseal

FOLDER = Path(tensorseal.__file__).parent


def test_no_public_name_is_that_of_a_module():
    modules = {path.stem for path in FOLDER.iterdir() if path.suffix == ".py" or path.is_dir()}
    # Importing a module puts it into the package under its name, in the place of whatever had that name.
    assert modules & set(tensorseal._PUBLIC) == set()


def test_type_checkers_know_the_same_names():
    tree = ast.parse((FOLDER / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    known = {name.asname: f".{node.module}" for node in imports if node.module for name in node.names}
    assert known == tensorseal._PUBLIC
    modules = [name.asname for node in imports if node.module is None for name in node.names]
    assert modules == list(tensorseal._MODULES)


def test_modules_are_there_without_being_imported():
    program = "import sys, tensorseal; before = {*sys.modules}; tensorseal.tensors.digest(b''); tensorseal.distributed.verify"
    program += "; assert not {'tensorseal.tensors', 'tensorseal.distributed'} & before; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_of_public_names_exist():
    for module in set(tensorseal._PUBLIC.values()):
        path = FOLDER / module[1:].replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module
    assert set(tensorseal._PUBLIC) <= set(dir(tensorseal))
    assert tensorseal.VerifyError is tensorseal.__getattr__("VerifyError")
    try:
        tensorseal.nothing
    except AttributeError as error:
        assert "'nothing'" in str(error)
    else:
        raise AssertionError("it has an attribute that nobody gave it")
