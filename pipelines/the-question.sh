#!/usr/bin/env bash
# "How is the total loss calculated over multiple classes in Keras?", answered step by step:
# a loss of 1 % although the fifth class has IoU 23 %.  usage: the-question.sh [DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=${BIN:-$here/../build/bin}:$PATH
mkdir -p "${1:-question}" && cd "${1:-question}"

say() { printf '\n'; printf '# %s\n' "$@"; }
run() { printf '$ %s\n' "$1"; eval "$1"; }

python3 "$here/question.py" question.seg
keys='@post.weighted_loss(weights=[0,1,2,3,4], sign=1)'
meant='@post.weighted_loss(weights=[1,1,1,1,1000], sign=1)'

say "Four classes near IoU 0.96, the fifth at 0.23:"
run "seg-iou question.seg"
say "and yet the loss is small.  Every step from pixels to this number, and what is odd about it:"
run "seg-loss --explain --ledger -l '$keys' question.seg"
say "1. The weights were a dict, and iterating over a dict gives its keys: 0,1,2,3,4, not 1,1,1,1,1000." \
	"   With the weights that were meant the same predictions give"
run "seg-loss -l '$meant' question.seg"
say "2. The mean divides by all pixels.  Divided by the weights, as torch's cross-entropy does, it is"
run "seg-loss -l 'sum[n,y,x](class_weight([0,1,2,3,4])*(mean[k](keras2_bce) + (1 - dice[n,y,x,k]))) / sum[n,y,x](class_weight([0,1,2,3,4]))' question.seg"
say "3. The classes are averaged before anything is weighted.  One at a time, and the WORST class has" \
	"   the SMALLEST number, because it is rare:"
run "seg-loss --field -l 'mean[n,y,x](bce)' question.seg | grep -v '[][{}\"]'"
say "4. The Dice is one number for the whole batch, classes pooled.  A Dice for each class:"
run "seg-loss -l 'dice[n,y,x,k]' question.seg"
run "seg-loss --field -l 'dice[n,y,x]' question.seg | grep -v '[][{}\"]'"
say "5. As posted the sign of the Dice was turned round: terms that cancel, and a loss that falls" \
	"   when the class with the large weight is frequent:"
run "seg-loss -l '@post.weighted_loss(weights=[0,1,2,3,4])' question.seg"
run "seg-loss -l '@post.weighted_loss(weights=[1,1,1,1,1000])' question.seg"
say "6. What others print for the very same predictions:"
run "seg-loss -l '$keys' --as all question.seg"
say "7. A loss in which the fifth class is visible, because each class counts alike:"
run "seg-loss --ledger -l 'mean[k](1 - dice[n,y,x])' question.seg"
