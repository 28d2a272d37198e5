"""relay_app.memory, in a process of its own: the setting cannot be taken back."""

import subprocess
import sys
from unittest.mock import patch

from relay_app.memory import return_large_blocks

_FREE_A_LARGE_BLOCK_TWICE = """
from relay_app.memory import return_large_blocks
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

assert return_large_blocks()
before = resident()
for _ in range(2):
    block = bytearray(20 * 2**20)
    keep = bytearray(2**16)  # above the block: it could not be trimmed from the heap's end
    del block
assert resident() - before < 4 * 2**20, resident() - before
"""


def test_freed_blocks_are_returned():
    subprocess.run([sys.executable, "-c", _FREE_A_LARGE_BLOCK_TWICE], check=True)


def test_another_c_library_is_left_alone():
    with patch("ctypes.CDLL", return_value=object()):
        assert return_large_blocks() is False
