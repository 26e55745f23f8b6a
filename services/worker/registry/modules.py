"""The modules of a folder of functions: the folder is a Python package.

So a file imports what lies beside it (`from ._helper import VALUE`), and other processes find what it defines by its
module's name (`pickle`). The package is called as its folder. If that is the name of another package, such as a second
folder of the same name, the name gets a digest of the folder's path: each file has a module of its own.
"""

import hashlib
import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec, NamespaceLoader
from pathlib import Path
from types import ModuleType


def module_of(file: Path) -> ModuleType:
    """Import a file, unless another file has imported it, and return its module.

    Raises:
        BaseException: whatever its author's code raises.
    """
    package = _package_of(file.parent.resolve())
    name = f"{package}.{file.stem}"
    # A name with a dot leads into a folder, and so does that of a folder beside the file.
    if "." not in file.stem and _is_at(importlib.util.find_spec(name), file):
        return importlib.import_module(name)
    name = f"{package}.{file.stem.replace('.', '_')}_{_digest(file)}"
    return sys.modules.get(name) or _execute(importlib.util.spec_from_file_location(name, file))


def _package_of(folder: Path) -> str:
    """Import the folder as a package, and return the package's name."""
    if folder.name.isidentifier():
        found = importlib.util.find_spec(folder.name)
        if found is None:
            # Other processes find it there, too: what they start with `spawn` gets this path.
            sys.path.append(str(folder.parent))
            importlib.invalidate_caches()
            found = importlib.util.find_spec(folder.name)
        if found is not None and _is_folder(found, folder):
            importlib.import_module(folder.name)
            return folder.name
    name = f"{''.join(filter(str.isidentifier, folder.name))}_{_digest(folder)}"
    if name not in sys.modules:
        _execute(_package_spec(name, folder))
    return name


def _package_spec(name: str, folder: Path) -> ModuleSpec | None:
    """Return the spec of a package at this folder, with an `__init__.py` or without."""
    if (init := folder / "__init__.py").is_file():
        return importlib.util.spec_from_file_location(name, init)
    spec = ModuleSpec(name, NamespaceLoader(name, [str(folder)], lambda *_: None), is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


def _execute(spec: ModuleSpec | None) -> ModuleType:
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses, type hints and pickle look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _is_at(spec: ModuleSpec | None, file: Path) -> bool:
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file.resolve()


def _is_folder(spec: ModuleSpec, folder: Path) -> bool:
    """Return whether the spec's submodules are looked for in this folder, before any other."""
    return next((Path(each).resolve() == folder for each in spec.submodule_search_locations or ()), False)


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
