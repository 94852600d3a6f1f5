# Cases out of the test suites of Keras, SMP, MONAI and TorchMetrics, through the recipes.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS
if [ -r "$SEG_REF/vectors.json" ]; then
	$PYTHON "$SEG_TESTS/vectors.py" "$SEG_REF/vectors.json" || no "vectors.py ended"
elif [ -n "${CI:-}" ]; then no "vectors" "no $SEG_REF/vectors.json in CI"
else skip "vectors" "no data"; fi
finish
