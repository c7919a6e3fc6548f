#!/bin/bash
# Removes what no later command reads, to save place (reports are written again by "train --resume" and "compare").
set -euxo pipefail
rm -f {multi_label_run,volumes_run}/{report.html,progress.png} volumes_run/last.ckpt
rm -f comparison/cells/*/run/{report.html,progress.png,last.ckpt} comparison_stopped/cells/*/run/{report.html,progress.png}
rm -f comparison_stopped/report.html comparison_stopped/cells/vit_nano-softmax-0/run/last.ckpt
rm -f segmentation_run/{report.html,progress.png} classification_run/{report.html,progress.png} comparison/report.html comparison/measure-0.log
rm -f comparison/.lock comparison_stopped/.lock
