#!/usr/bin/env python3
"""Runs a command on a terminal of some columns and prints what it writes to standard output:
python3 terminal.py COLUMNS COMMAND..."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, int(sys.argv[1]), 0, 0))
process = subprocess.Popen(sys.argv[2:], stdout=theirs, stderr=subprocess.DEVNULL)
os.close(theirs)
shown = b""
while True:
    try:
        part = os.read(ours, 65536)
    except OSError:
        break
    if not part:
        break
    shown += part
sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
sys.exit(process.wait())
