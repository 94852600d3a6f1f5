#!/bin/sh
# The recipes against the frameworks themselves, in an environment made for it in build/venv.
# usage: conformance.sh [CASES]     exit status 77: the frameworks cannot be installed here
V=build/venv
sh tests/deps.sh python3-venv python3-numpy python3-torch || exit 77
if [ ! -e $V/ready ]; then
	echo "installing Keras, TensorFlow, MONAI, SMP, nnU-Net and TorchMetrics in $V" >&2
	rm -rf $V
	# Without their dependencies where only losses are wanted; torch is Debian's.
	/usr/bin/python3 -m venv --system-site-packages $V &&
	$V/bin/pip install -q tensorflow-cpu keras "ml_dtypes<0.6" "numpy<2" &&
	$V/bin/pip install -q --no-deps tf-keras monai==1.3.2 segmentation-models-pytorch==0.3.3 nnunetv2 torchmetrics \
		lightning-utilities || exit 77
	touch $V/ready
fi
PATH=$PWD/build/bin:$PATH PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 exec $V/bin/python -W ignore tests/conformance.py "$@" 2>build/conformance.err
