"""Has somebody else start a Python process in this one's place, and ends as it does: SOCKET ARGUMENTS..."""

import json
import os
import socket
import sys
from pathlib import Path

door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
asked = {"argv": sys.argv[2:], "cwd": str(Path.cwd()), "environment": dict(os.environ)}
socket.send_fds(door, [json.dumps(asked).encode()], [1, 2])
sys.exit((door.recv(1) or b"\x01")[0])
