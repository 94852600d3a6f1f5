# Four hosts, each a network namespace with a name of its own: they train the same model; with one cut
# off in mid-run the job is over everywhere in seconds, and resumed on the others it ends with that model.
. "$SEG_TESTS/lib.sh"
[ "${MPI:-yes}" != yes ] && { skip "hosts" "not built with Open MPI"; finish; }
. "$SEG_TESTS/hosts.sh"
hosts_up

# mpirun's way to another host: HOST COMMAND...
cat >agent <<'S'
#!/bin/sh
while :; do case $1 in -*) shift ;; *) break ;; esac; done
host=$1; shift
exec ip netns exec "$host" unshare --uts -- sh -c "hostname $host; exec sh -c '$(printf %s "$*" | sed "s/'/'\\\\''/g")'"
S
chmod +x agent
train() { # NP HOSTS args...: the daemons give up a link that is silent for 6 seconds
	local np=$1 hosts=$2; shift 2
	for h in $hosts; do echo "$h slots=2"; done >hostfile
	timeout -k 2 90 mpirun -q -np "$np" --map-by node --hostfile hostfile --mca plm rsh --mca plm_rsh_agent "$PWD/agent" --mca plm_rsh_no_tree_spawn 1 \
		--mca btl self,vader,tcp --mca pml ob1 --mca btl_tcp_if_include $net.0/24 --mca oob_tcp_if_include $net.0/24 --bind-to none \
		--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 \
		"$BIN/seg-train" -@ 1 "$@" 2>err </dev/null
}
all="segh0 segh1 segh2 segh3"
seg-synth -n 13 --size 64 >s.seg
args="-i s.seg --channels 4,8 --batch 5 --epochs 80 -o m.seg"
seg-train $args 2>/dev/null || no "one process"
want=$(seg-info --hash m.seg | cut -c1-16); rm -f m.seg
train 4 "$all" $args || no "four hosts" "$(cat err)"
is "four hosts, the model of one process" "$(seg-info --hash m.seg 2>&1 | cut -c1-16)" "$want"
train 5 "$all" -i s.seg --channels 4,8 -o m.seg --batch 5 --range nonsense; rc=$?
is "what is wrong is said once" "$rc $(grep -c '^seg-train: ' err)" "2 1"

# The third host is cut off while it trains.
rm -f m.seg c.seg
train 4 "$all" -i s.seg --channels 4,8 --batch 5 --epochs 80 -o m.seg --checkpoint "$PWD/c.seg" --checkpoint-every 0 &
pid=$!
# not in its first moments: what mpirun itself sends then keeps its keepalive from working, for as long as TCP tries
until [ "$(step_of c.seg)" -ge 20 ] 2>/dev/null || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
start=$SECONDS
ip link set segv2 down
wait $pid; rc=$?
took=$((SECONDS - start))
if [ -e m.seg ]; then
	skip "a host cut off" "the job was over before the link was cut"
else
	[ $rc != 0 ] && ok "a host cut off: status $rc" || no "a host cut off: status 0"
	[ $took -lt 15 ] && ok "a host cut off: over in $took seconds" || no "a host cut off: over in seconds" "$took s"
	for i in $(seq 80); do [ -z "$(pgrep -f "seg-train .*$PWD/c.seg")" ] && break; sleep 0.1; done
	is "a host cut off: nobody is left on any host" "$(pgrep -f "seg-train .*$PWD/c.seg")" ""
	is "a host cut off: the checkpoint is whole" "$(seg-info c.seg >/dev/null 2>&1; echo $?)" 0
	train 3 "segh0 segh1 segh3" $args --checkpoint c.seg --resume || no "resumed on three hosts" "$(cat err)"
	is "resumed on the three others: the model of one process" "$(seg-info --hash m.seg 2>&1 | cut -c1-16)" "$want"
fi
finish
