"""Start a worker. Its package is loaded under a private name, which cannot clash with a module of the target."""

import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "sluicegate_worker"

folder = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location(NAME, folder / "__init__.py", submodule_search_locations=[str(folder)])
assert spec is not None
assert spec.loader is not None
sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[NAME])

incoming, outgoing = map(int, sys.argv[1:])
del sys.argv[1:]  # they are not meant for the target
importlib.import_module(f"{NAME}.commands").serve(incoming, outgoing)
