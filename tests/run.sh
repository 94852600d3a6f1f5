#!/bin/sh
# Runs every tests/u-* and tests/t-*.sh (or those named) and ends with "N passed, N failed".
# u-*: cmocka programs, each test function counts.  t-*.sh: each `ok`/`not ok` line counts.
B=${B:-build}
top=$(pwd)
export TOP="$top" BIN="$top/$B/bin" B MPI SEG_TESTS="$top/tests"
export PATH="$BIN:$PATH" LC_ALL=C.UTF-8
SEG_DATA=${SEG_DATA:-$top/../shared/data}; export SEG_DATA
SEG_REF=${SEG_REF:-$top/../shared/reference}; export SEG_REF
for PYTHON in python3 /usr/bin/python3; do $PYTHON -c 'import numpy' 2>/dev/null && break; done
export PYTHON
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- "$B"/tests/u-* tests/t-*.sh
for t in "$@"; do
	case $t in *.o|*.d) continue ;; esac
	name=$(basename "$t")
	[ -e "$t" ] || { [ -e "$B/tests/$t" ] && t=$B/tests/$t || t=tests/$t; }
	[ -e "$t" ] || { echo "not ok $name: no such test"; failed=$((failed+1)); continue; }
	mkdir "$work/$name"
	start=$(date +%s)
	case $t in
	*.sh) (cd "$work/$name" && timeout -k 5 900 bash "$top/$t") >"$work/log" 2>&1 </dev/null; rc=$? ;;
	*)    case $t in /*) ;; *) t=$top/$t ;; esac
	      (cd "$work/$name" && CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 900 "$t") >"$work/log" 2>&1 </dev/null; rc=$? ;;
	esac
	# cmocka calls a skipped test "not ok N # SKIP"
	s=$(grep -c '^ok.*skipped:\|^\(not \)\?ok.*# SKIP' "$work/log")
	p=$(grep '^ok\b' "$work/log" | grep -vc 'skipped:\|# SKIP'); f=$(grep '^not ok\b' "$work/log" | grep -vc '# SKIP')
	if [ $rc -ne 0 ] && [ "$f" = 0 ]; then f=1; echo "not ok $name: exit status $rc" >>"$work/log"; fi
	[ $((p+f+s)) -gt 0 ] || { f=1; echo "not ok $name: ran no test" >>"$work/log"; }
	passed=$((passed+p)) failed=$((failed+f)) skipped=$((skipped+s))
	printf '%-28s %4d passed %3d failed%s  %ds\n' "$name" "$p" "$f" \
		"$([ "$s" -gt 0 ] && printf ' %3d skipped' "$s")" $(($(date +%s)-start))
	[ "$f" = 0 ] || sed 's/^/    /' "$work/log" | tail -n 60
	[ "$s" = 0 ] || grep 'skipped:\|# SKIP' "$work/log" | sed 's/^/    /' | sort -u | head -n 5
	rm -rf "${work:?}/$name"
done
if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"
else echo "$passed passed, $failed failed"; fi
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
