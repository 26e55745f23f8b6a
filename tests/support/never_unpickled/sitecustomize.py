"""In a process with this folder in its PYTHONPATH, nothing can be unpickled: a pickle runs code.

Python imports this before anything else. The standard library's `multiprocessing` may still do it: where processes are
not forked, a parent passes its child's arguments in that way.
"""

import _pickle
import pickle
import sys
from typing import Any, NoReturn


def _refuse(*_: Any, **__: Any) -> NoReturn:
    print("UNPICKLED", flush=True)
    raise RuntimeError("nothing is unpickled here")


def _of_multiprocessing() -> bool:
    return str(sys._getframe(2).f_globals.get("__name__", "")).startswith("multiprocessing.")


for module in (pickle, _pickle):
    for name in ("load", "loads", "Unpickler"):
        original: Any = getattr(module, name)

        def guarded(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            """The original for `multiprocessing`, a refusal for everything else."""
            return _original(*args, **kwargs) if _of_multiprocessing() else _refuse()

        setattr(module, name, guarded)

print("nothing can be unpickled", flush=True)
