#!/bin/bash
# Makes every artefact of this folder with version 0.1.0. Run in an empty folder that holds tools/ and this file.
set -euxo pipefail
. tools/env.sh
$PYTHON -c 'import gossamer; assert gossamer.__version__ == "0.1.0"; print(gossamer.__file__)'
mkdir -p made

$PYTHON tools/draw.py

g train data/classification --out classification_run --epochs 2 $CLASSIFY
g export classification_run --out classification_bundle --threads 1 --licence-weights CC0-1.0 --licence-data CC0-1.0
g quantize classification_run --out classification_bundle_int8 --rung static --max-drop 1 --threads 1

g train data/segmentation --out segmentation_run --epochs 4 $SEGMENT
g export segmentation_run --out segmentation_bundle --threads 1
g quantize segmentation_run --out segmentation_bundle_int8 --rung static --max-drop 1 --threads 1

# Stopped after an epoch, and a copy that goes on.
$PYTHON tools/stop.py classification_stopped/metrics.csv train data/classification --out classification_stopped --epochs 12 $CLASSIFY
cp -r classification_stopped made/resumed
g train --resume made/resumed

# Imported weights, and a run that starts from them with another mechanism and several labels.
g import-weights data/published.safetensors --model vit_nano --out imported
g train data/multi_label --out multi_label_run --init imported --attention sequence_norm --epochs 3 $TRAIN
g export multi_label_run --out multi_label_bundle --threads 1

g train data/volumes --out volumes_run --epochs 4 --stack 3 $SEGMENT
g export volumes_run --out volumes_bundle --threads 1

# Comparisons: a finished one, and one that is stopped while its second cell trains, with a copy that goes on.
COMPARE="--models vit_nano --attention softmax,sequence_norm --seeds 1 --epochs 1 --image-size 28x28 --batch-size 8 --max-drop 1 --threads 1"
g compare data/classification $COMPARE --out comparison
STOPPED="${COMPARE/--epochs 1/--epochs 12} --precisions torch,float32"
$PYTHON tools/stop.py comparison_stopped/cells/vit_nano-sequence_norm-0/run/metrics.csv compare data/classification $STOPPED --out comparison_stopped
cp -r comparison_stopped made/comparison_resumed
g compare data/classification $STOPPED --out made/comparison_resumed

bash expect.sh
bash trim.sh
rm -r made
