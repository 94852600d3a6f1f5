# seg-loss as its users see it: the question explained and taken apart, and what its options do.
. "$SEG_TESTS/lib.sh"
$PYTHON "$SEG_TESTS/loss.py" || no "loss.py ended"
finish
