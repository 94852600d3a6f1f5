#!/bin/sh
# Install the Debian packages named as arguments that are missing; say what and why.
command -v dpkg-query >/dev/null || exit 0 # not Debian: the build says what it lacks
missing=
for p in "$@"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else
	echo "seg: missing packages; run: sudo apt-get install$missing" >&2
	exit 1
fi
echo "seg: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
for try in 1 2 3; do
	if $sudo apt-get update -qq >"$log" 2>&1 &&
	   $sudo apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1; then
		rm -f "$log"; exit 0
	fi
	sleep 5
done
tail -n 5 "$log" >&2
echo "seg: installation failed; the log is $log" >&2
exit 1
