"""How many kinds of bad input are refused clearly, before any training.

    python benchmarks/bad_input.py [--quick] [--show]

A refusal is clear when it is an `EtudeError` that says what was required, what was received
and what to do, and names the fault that the case has. Near neighbours of the bad inputs that
are fine must pass: `good_accepted` is the control that the checks are not just strict. The
last line of output is one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent


def load_cases() -> ModuleType:
    """The list of cases, which the tests use as well."""
    path = ROOT / "tests" / "problem" / "bad_inputs.py"
    spec = importlib.util.spec_from_file_location("bad_inputs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clear(error: BaseException | None, says: str) -> bool:
    """Whether the error says what was required, what was received and what to do, and `says`."""
    from etude.errors import EtudeError

    return (
        isinstance(error, EtudeError)
        and says in str(error)
        and all(
            isinstance(part, str) and part.strip()
            for part in (error.what, error.required, error.received, error.advice)
        )
    )


def attempt(call: Any) -> BaseException | None:
    """What a call raises, or `None`."""
    try:
        call()
    except Exception as error:
        return error
    return None


def main(argv: list[str] | None = None) -> int:
    """Runs all cases; exit status 1 when one is not refused clearly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every fourth case")
    parser.add_argument("--show", action="store_true", help="print every message")
    options = parser.parse_args(argv)
    cases = load_cases()
    step = 4 if options.quick else 1
    names = list(cases.CASES)[::step]
    started = time.monotonic()
    unclear: dict[str, str] = {}
    for name in names:
        error = attempt(cases.CASES[name])
        if not clear(error, cases.SAYS[name]):
            unclear[name] = repr(error)
        if options.show:
            print(f"--- {name}\n{type(error).__name__}: {error}\n")
    refused: dict[str, str] = {}
    for name, call in cases.GOOD.items():
        error = attempt(call)
        if error is not None:
            refused[name] = repr(error)
    for name, text in {**unclear, **refused}.items():
        print(f"FAILED {name}: {text}", file=sys.stderr)
    print(
        json.dumps(
            {
                "benchmark": "bad_input",
                "kinds": len(names),
                "clear_errors": len(names) - len(unclear),
                "good": len(cases.GOOD),
                "good_accepted": len(cases.GOOD) - len(refused),
                "unclear": sorted(unclear),
                "quick": options.quick,
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    )
    return 1 if unclear or refused else 0


if __name__ == "__main__":
    sys.exit(main())
