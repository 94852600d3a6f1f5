# Sourced by t-*.sh: small helpers.  Every check prints `ok NAME` or `not ok NAME` and why.
# is NAME GOT WANT | status NAME WANT cmd... | says NAME STATUS PATTERN cmd... | skip NAME REASON
set -u
bad=0
ok() { echo "ok $1"; }
no() { echo "not ok $1"; shift; printf '#   %s\n' "$@"; bad=1; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else no "$1" "got:  $2" "want: $3"; fi; }
match() { if printf '%s\n' "$2" | grep -qE -- "$3"; then ok "$1"; else no "$1" "got:  $2" "want a match of: $3"; fi; }
status() { n=$1 w=$2; shift 2; out=$("$@" 2>&1); rc=$?; if [ $rc = "$w" ]; then ok "$n"; else no "$n" "status $rc, want $w" "$out"; fi; }
# exit status and exactly one line on stderr that matches
says() {
	n=$1 w=$2 pat=$3; shift 3
	err=$("$@" 2>&1 >/dev/null); rc=$?
	if [ $rc != "$w" ]; then no "$n" "status $rc, want $w" "$err"
	elif [ "$(printf '%s\n' "$err" | wc -l)" != 1 ]; then no "$n" "want one line on stderr, got:" "$err"
	else match "$n" "$err" "$pat"; fi
}
skip() { echo "ok $1 # SKIP skipped: $2"; }
data() { [ -d "$SEG_DATA/$1" ] && return 0; if [ -n "${CI:-}" ]; then no "data $1" "no $SEG_DATA/$1 in CI"; else skip "data $1" "no data"; fi; return 1; }
# N real micrographs as a stream, or scenes where there are none
micrographs() {
	local sem=$SEG_DATA/sem/train f
	[ -d "$sem" ] || { seg-synth -n "$1" --size 64; return; }
	mkdir -p images labels
	for f in $(ls "$sem/images" | head -n "$1"); do ln -sf "$sem/images/$f" images; ln -sf "$sem/labels/$f" labels; done
	seg-load --images images --labels labels --classes matrix,oxide,secondary,tertiary,crack
}
# the step that a checkpoint was written after
step_of() { seg-info "$1" 2>/dev/null | sed -n 's/^checkpoint: .*"step":\([0-9]*\).*/\1/p'; }
finish() { exit $bad; }
