# Broken input and full disks, for every program: the status of the manual, one clear line, and
# nothing left behind under a final name.
. "$SEG_TESTS/lib.sh"
seg-synth -n 2 --size 16 --level 9 >in.seg
seg-train -i in.seg -o model.seg --channels 2,3 --max-steps 1 2>log || no "a model" "$(cat log)"
seg-predict -m model.seg <in.seg >pred.seg
$PYTHON "$SEG_TESTS/broken.py" || no "broken.py ended"
finish
