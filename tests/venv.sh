# Sourced by conformance.sh and bench.sh: the Python environment in build/venv, made of Debian's Python,
# numpy and torch and of what `venv NAME PIP-ARGUMENT...` adds to it, once; it fails if pip does.
V=$PWD/build/venv
venv() {
	what=$1; shift
	[ ! -e "$V/have-$what" ] || return 0
	[ -e "$V/bin/pip" ] || /usr/bin/python3 -m venv --system-site-packages "$V" || return 1
	echo "installing $what in build/venv" >&2
	"$V/bin/pip" install -q "$@" >&2 && touch "$V/have-$what"
}
# tensorflow-cpu is TensorFlow without what only a GPU needs; numpy as both torch and TensorFlow take it.
venv_keras() { venv keras tensorflow-cpu keras "ml_dtypes<0.6" "numpy<2"; }
