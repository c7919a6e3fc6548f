# Sourced by make.sh: version 0.1.0 with tiny presets, one thread.
export PYTHON=${PYTHON:?interpreter with the packages of requirements.lock} SOURCE=${SOURCE:?folder src of version 0.1.0}
export PYTHONPATH=$PWD/tools/tiny:$SOURCE OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
g() { nice "$PYTHON" -m gossamer "$@"; }
TRAIN="--precision float32 --batch-size 4 --learning-rate 0.003 --threads 1"
CLASSIFY="--model vit_nano --attention sequence_norm --stem patch --patch-size 7 $TRAIN"
SEGMENT="--task segment --model transunet_small --attention sequence_norm $TRAIN"
