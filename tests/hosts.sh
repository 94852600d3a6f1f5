# Sourced: four hosts as network namespaces segh0..3 with addresses $net.10.. on one bridge.
#   hosts_up    makes them, or skips and ends the test where that is not allowed
#   on K cmd... runs a command on host K, which then has a name, processes and shared memory of its own
net=10.77.9
hosts_down() {
	for k in 0 1 2 3; do
		ip netns pids segh$k 2>/dev/null | xargs -r kill -9 2>/dev/null
		ip netns del segh$k 2>/dev/null; ip link del segv$k 2>/dev/null
	done
	ip link del segbr 2>/dev/null
}
hosts_make() {
	ip link add segbr type bridge && ip addr add $net.1/24 dev segbr && ip link set segbr up || return 1
	for k in 0 1 2 3; do
		ip netns add segh$k && ip link add segv$k type veth peer name eth0 netns segh$k && ip link set segv$k master segbr up &&
			ip -n segh$k addr add $net.$((10 + k))/24 dev eth0 && ip -n segh$k link set eth0 up && ip -n segh$k link set lo up || return 1
	done
}
hosts_up() {
	trap hosts_down EXIT
	hosts_down
	hosts_make >/dev/null 2>&1 && on 0 true 2>/dev/null || { skip "hosts" "network namespaces cannot be made here"; finish; }
}
# nsenter and not `ip netns exec`, which mounts /sys anew: slurmd would not find its cgroup
on() {
	local k=$1; shift
	nsenter --net=/run/netns/segh"$k" unshare --uts --ipc --mount -- \
		sh -c 'hostname segh'"$k"' && mount -t tmpfs tmpfs /dev/shm && exec "$@"' sh "$@"
}
