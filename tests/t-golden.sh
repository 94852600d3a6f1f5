# The golden numbers of Keras and TensorFlow.js, through the programs: predictions, losses,
# gradients (one SGD step with a huge rate), five Adam steps, the epoch numbers of fit().
. "$SEG_TESTS/lib.sh"
if [ ! -d "$SEG_REF/golden" ]; then
	if [ -n "${CI:-}" ]; then no "golden" "no $SEG_REF/golden in CI"; else skip golden "no data"; fi
	finish
fi
$PYTHON "$SEG_TESTS/golden.py" "$SEG_REF/golden" || bad=1
finish
