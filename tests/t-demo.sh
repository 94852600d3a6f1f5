# The demo on a small scale: every command of it runs, and what it promises is there.
. "$SEG_TESTS/lib.sh"
timeout -k 5 120 bash "$TOP/pipelines/demo.sh" out 10 32 1 >log 2>&1; rc=$?
is "demo.sh runs through" "$rc" 0 || tail -n 5 log
is "two trainings, two reports of the same loss" "$(grep -c '^\$ .*seg-loss' log) $(grep -c '^the loss ' log)" "2 2"
match "the ledger has the rare class" "$(sed -n '/^# and the first loss/,$p' log)" '^crack +[0-9,]+ '
is "its pictures are there" "$(sed -n 's/.*: before and after:$/x/p; /^\/.*tif$/p' log | grep -c tif)" 4
sed -n '/^\/.*tif$/p' log | while read -r f; do [ -s "$f" ] || echo "missing $f"; done >missing
is "and not empty" "$(cat missing)" ""
finish
