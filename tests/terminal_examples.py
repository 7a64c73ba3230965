"""A terminal of 80 columns to run a program in; holds no tests."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

COLUMNS = 80


def screen_lines(program: str, *arguments: str) -> list[str]:
    """What a program draws, each state of a line that is drawn over on its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    # A script that ran in this process, in a pipe, may have switched bars off.
    ours_alone = ("COLUMNS", "LINES", "TQDM_DISABLE")
    environment = {name: value for name, value in os.environ.items() if name not in ours_alone}
    environment["TQDM_MININTERVAL"] = "0"  # so that bars are drawn each time they might be
    root = Path(__file__).resolve().parents[1]
    running = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=root, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    drawn = b""
    try:
        while data := os.read(ours, 1 << 16):
            drawn += data
    except OSError:
        pass  # so Linux tells that the program has closed its end
    os.close(ours)
    assert running.wait() == 0, drawn.decode()
    text = drawn.decode().replace("\x1b[A", "")
    return [line for line in text.replace("\n", "\r").split("\r") if line.strip()]
