"""python tools/stop.py FILE ARGUMENTS...: runs gossamer with these arguments, and stops it (SIGTERM) once FILE is there."""

import signal
import subprocess
import sys
import time
from pathlib import Path

file = Path(sys.argv[1])
process = subprocess.Popen([sys.executable, "-m", "gossamer", *sys.argv[2:]])
while not file.exists() and process.poll() is None:
    time.sleep(0.001)
process.send_signal(signal.SIGTERM)
status = process.wait()
print(f"ended with status {status}", file=sys.stderr)
sys.exit(status != 128 + signal.SIGTERM)
