#!/usr/bin/env bash
# The whole chain on scenes drawn here, in about two minutes on two cores: a loss that looks finished
# while the fifth class is not found at all, what the tools say about it, and a loss that finds it.
# usage: demo.sh [DIR [SCENES [SIZE [EPOCHS]]]]
set -euo pipefail
dir=${1:-demo} scenes=${2:-200} size=${3:-256} epochs=${4:-10}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/mpi.sh"
PATH=${BIN:-$here/../build/bin}:$PATH
mkdir -p "$dir" && cd "$dir"

say() { printf '\n# %s\n' "$@"; }
# Show a command as one would type it, then run it.
run() { printf '$ %s\n' "${1//ranks 2/mpirun -np 2}"; eval "$1"; }

say "$scenes scenes of five classes, the fifth a rare crack; a fifth of them held out"
run "seg-synth -n $scenes --size $size | seg-split --hold-out 0.2 val.seg > train.seg"
run "seg-info val.seg | tail -n 3"

say "train with cross-entropy on two ranks; every epoch sees every scene turned and lit anew"
run "seg-augment -s 7 --epochs $epochs flip rot90 'gamma(0.8,1.25)' < train.seg |
  ranks 2 seg-train --val val.seg --norm instance --init he --lr 0.003 --batch 8 --log ce.jsonl -o ce.seg"
run "seg-predict --logits -m ce.seg < val.seg > ce-pred.seg"
run "seg-iou ce-pred.seg"

say "the loss is small: how did it become this number, and which class is to blame?"
run "seg-loss --explain --ledger ce-pred.seg"

say "go on with a loss in which each class has a Dice of its own, however few its pixels"
run "seg-augment -s 8 --epochs $epochs flip rot90 'gamma(0.8,1.25)' < train.seg |
  ranks 2 seg-train --from ce.seg -l 'mean[n,y,x](ce) + mean[k](1 - dice[n,y,x])' \\
    --val val.seg --lr 0.003 --batch 8 --log dice.jsonl -o dice.seg"
run "seg-predict --logits -m dice.seg < val.seg > dice-pred.seg"
run "seg-save -o before --overlay --side-by-side ce-pred.seg"
run "seg-save -o after --overlay --side-by-side dice-pred.seg"
run "seg-iou dice-pred.seg"

say "and the first loss again, taken apart on the new predictions"
run "seg-loss --ledger dice-pred.seg"
say "pictures (image, truth, prediction), before and after:"
ls "$PWD"/before/*.tif | head -n 3
ls "$PWD"/after/*.tif | head -n 3
