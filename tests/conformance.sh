#!/bin/sh
# The recipes against the frameworks themselves, in an environment made for it in build/venv.
# usage: conformance.sh [CASES]     exit status 77: the frameworks cannot be installed here
sh tests/deps.sh python3-venv python3-numpy python3-torch || exit 77
. tests/venv.sh
# Without their dependencies where only losses are wanted; torch is Debian's.
venv_keras && venv losses --no-deps tf-keras monai==1.3.2 segmentation-models-pytorch==0.3.3 nnunetv2 torchmetrics \
	lightning-utilities || exit 77
PATH=$PWD/build/bin:$PATH PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 exec $V/bin/python -W ignore tests/conformance.py "$@" 2>build/conformance.err
