# A step on simulated clusters of up to 256 hosts: the formula of tests/scale/model.py holds, and at 16
# samples per rank on 10 Gb/s at least 90 % of the time is computing.
. "$SEG_TESTS/lib.sh"
[ "${MPI:-yes}" != yes ] && { skip "scale" "not built with Open MPI"; finish; }
sh "$SEG_TESTS/deps.sh" libsimgrid-dev >deps.log 2>&1
command -v smpicc >/dev/null && command -v smpirun >/dev/null || { skip "scale" "no libsimgrid-dev: $(tail -n 1 deps.log)"; finish; }
scale=$SEG_TESTS/scale
if sh "$scale/run.sh" >rows 2>err; then ok "simulated"; else no "simulated" "$(tail -n 5 err)"; fi
sed 's/^/# /' rows
# network ranks batch b | step SMPI, model, difference | communication SMPI, model, ratio | efficiency
is "rows" "$(grep -c '^10*Gb/s' rows)" 74
is "the model's step within 15 % of the simulation's" \
	"$(awk '/^10*Gb\/s/ && ($8 + 0 < -15 || $8 + 0 > 15)' rows)" ""
# A wait ends at the next look, after a nap of up to 1 ms: where the bytes arrive just before or after one,
# up to 1 ms of the 4 that uneven shares take on 100 Gb/s is the simulation's or the formula's.
is "its communication within a factor of 1.3" "$(awk '/^10*Gb\/s/ && ($12 < 1 / 1.3 || $12 > 1.3)' rows)" ""
is "256 ranks, 16 samples each, 10 Gb/s: at least 90 % computing" \
	"$(awk '$1 == "10Gb/s" && $2 == 256 && $3 == 4096 {print($14 + 0 >= 90 ? "yes" : $14)}' rows)" yes
is "seg-cluster(7) has the model's table" "$(mandoc -T ascii -O width=200 "$TOP/man/seg-cluster.7" | col -bx | sed -n '/between hosts/,/what limits:/p' | sed 's/^ *//')" \
	"$(python3 "$scale/model.py" | sed 's/^ *//')"
finish
