#!/bin/bash
# Writes expected.json with version 0.1.0 as it is, without the tiny presets.
set -euxo pipefail
. tools/env.sh
PYTHONPATH=$SOURCE nice "$PYTHON" tools/expect.py
