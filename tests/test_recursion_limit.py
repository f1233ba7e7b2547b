"""No dependency takes away the guard that keeps nested input from ending the process."""

from __future__ import annotations

import subprocess
import sys


def test_deeply_nested_json_is_an_error_and_no_crash() -> None:
    """In a process of its own, since what must not happen is a segmentation fault."""
    program = (
        "import app.protocol.signing, app.ledger.chain, app.store.kubo, json\n"
        "try: json.loads('[' * 200_000)\n"
        "except RecursionError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "refused\n", done.stderr
