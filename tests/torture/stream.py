"""A long stream of rows through `label` by pipe: what goes in comes out, and memory stays flat."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from erprm_cli.rows.row import to_line
from tests.torture import rows

DISTINCT = 500
SLACK_KB = 6_000  # of memory that a stream of any length may take beyond a tenth of it


def stream(count: int, tell: Callable[[str], object]) -> Counter[str]:
    """Send `count` rows of 16 rollouts through; the memory may not grow from a tenth of them to all."""
    block = b"".join(to_line(rows.rollouts(number)) for number in range(DISTINCT))
    short, long = (_label(block, number // DISTINCT) for number in (count // 10, count))
    tell(f"{long[0]:,} rows, {long[1] / 1024:.0f} MB of memory; {short[0]:,} rows, {short[1] / 1024:.0f} MB")
    assert long[1] < short[1] + SLACK_KB, f"memory grew from {short[1]} to {long[1]} kB"
    wanted = count // DISTINCT * DISTINCT
    return Counter(
        {"rows": long[0], "lost": wanted - min(long[0], wanted), "duplicated": max(0, long[0] - wanted)}
    )


def _label(block: bytes, times: int) -> tuple[int, int]:
    """Return how many rows came out and the most memory that `label` took (kB)."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "erprm_cli", "label", "-q"], stdin=pipe, stdout=pipe
    ) as label:
        assert label.stdin and label.stdout
        feeder = os.fork()
        if not feeder:
            try:
                label.stdout.close()
                for _ in range(times):
                    label.stdin.write(block)
                label.stdin.flush()
            finally:
                os._exit(0)
        label.stdin.close()
        count = peak_kb = 0
        while data := label.stdout.read1(1 << 20):  # type: ignore[attr-defined]
            count += data.count(b"\n")
            peak_kb = _peak_kb(label.pid) or peak_kb
        os.waitpid(feeder, 0)
        assert label.wait() == 0
    return count, peak_kb


def _peak_kb(pid: int) -> int:
    """Return the most memory that a process has taken since its start (kB); 0 once it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()  # ru_maxrss would begin at what its parent takes
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
