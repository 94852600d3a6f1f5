# The batch scripts on a real slurmctld and four slurmd, each on a host of its own: training started by
# mpirun and by srun is asked to stop, loses a rank, loses a node, and ends with the model of one process.
. "$SEG_TESTS/lib.sh"
[ "${MPI:-yes}" != yes ] && { skip "slurm" "not built with Open MPI"; finish; }
[ "$B" = build ] || { skip "slurm" "the scripts are tested once"; finish; }
for p in slurmctld slurmd munged; do
	[ -x /usr/sbin/$p ] || { skip "slurm" "no $p here: apt-get install slurm-wlm munge"; finish; }
done
. "$SEG_TESTS/hosts.sh"
hosts_up
export SLURM_CONF=$PWD/slurm.conf OMPI_MCA_btl_tcp_if_include=$net.0/24 OMPI_MCA_oob_tcp_if_include=$net.0/24
slurm_down() {
	for k in 0 1 2 3; do ip link set segv$k up; done
	scancel -u "$(id -un)" 2>/dev/null; sleep 0.5
	cat slurm*.pid munged.pid 2>/dev/null | xargs -r kill -9 2>/dev/null
	hosts_down
}
slurm_up() {
	chmod 755 .
	head -c 128 /dev/urandom >munge.key && chmod 400 munge.key
	/usr/sbin/munged --force --socket="$PWD/munge.socket" --key-file="$PWD/munge.key" --pid-file="$PWD/munged.pid" \
		--log-file="$PWD/munged.log" --seed-file="$PWD/munge.seed" || return 1
	cat >slurm.conf <<S
ClusterName=seg
SlurmctldHost=$(hostname -s)($net.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$PWD/munge.socket
CredType=cred/munge
SlurmctldPort=16817
StateSaveLocation=$PWD/state
SlurmdSpoolDir=$PWD/spool/%n
TmpFS=$PWD/tmp/%n
SlurmctldPidFile=$PWD/slurmctld.pid
SlurmdPidFile=$PWD/slurmd-%n.pid
SlurmctldLogFile=$PWD/slurmctld.log
SlurmdLogFile=$PWD/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MpiParams=ports=20000-20999
ReturnToService=2
SlurmdTimeout=20
UnkillableStepTimeout=20
KillWait=5
SwitchType=switch/none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
$(for k in 0 1 2 3; do echo "NodeName=segh$k NodeAddr=$net.$((10 + k)) Port=17000 CPUs=2 RealMemory=1000"; done)
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP
S
	mkdir -p state && for k in 0 1 2 3; do mkdir -p spool/segh$k tmp/segh$k; done
	/usr/sbin/slurmctld -f "$SLURM_CONF" || return 1
	for k in 0 1 2 3; do on $k /usr/sbin/slurmd -f "$SLURM_CONF" || return 1; done
	for i in $(seq 100); do [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 4 ] && return 0; sleep 0.1; done
	return 1
}
trap slurm_down EXIT
slurm_up >up.log 2>&1 || { skip "slurm" "the daemons do not come up: $(tail -n 1 up.log slurmctld.log 2>/dev/null)"; finish; }

state() { scontrol -o show job "$1" 2>/dev/null | sed 's/.* JobState=\([A-Z_]*\) .*/\1/'; }
# Wait for the end.  A job that was put back would wait two minutes, so that the nodes forget what they
# know of it; five seconds are enough.
wait_for() {
	local pending=0 i
	for i in $(seq 120); do
		case $(state "$1") in
		COMPLETED | FAILED | NODE_FAIL | CANCELLED | TIMEOUT) return ;;
		PENDING) [ $((++pending)) = 5 ] && scontrol update JobId="$1" StartTime=now && pending=0 ;;
		*) pending=0 ;;
		esac
		sleep 1
	done
}
hash() { seg-info --hash "$1" 2>&1 | cut -c1-16; }
seg-synth -n 13 --size 64 >s.seg
args="-@ 1 -i s.seg --channels 4,8 --batch 5 --checkpoint-every 0"
seg-train $args --epochs 200 --checkpoint c.seg -o m.seg 2>/dev/null; want=$(hash m.seg); rm -f m.seg c.seg

job() { # NAME LAUNCH sbatch-options: the job's number; it is under way when it has done twenty steps
	local name=$1 launch=$2; shift 2
	LAUNCH=$launch sbatch --parsable -J "$name" "$@" "$TOP/pipelines/train.sbatch" $args --epochs 200 -o "$name.seg"
}
under_way() { # NAME ID
	for i in $(seq 300); do [ "$(step_of "$1-$2-state.seg")" -ge 20 ] 2>/dev/null && return 0; sleep 0.1; done
	no "$1: under way" "$(state "$2"), no checkpoint after 30 s"; return 1
}
ends_well() { # NAME ID PATTERN: it was put back for that reason, and ends with the right model
	local before=$bad; bad=0
	wait_for "$2"
	match "$1: put back" "$(grep '^status\|NODE FAIL' "$1-$2.txt")" "$3"
	match "$1: resumed" "$(grep '^resumed' "$1-$2.txt")" '^resumed +after step'
	is "$1: ends with the model of one process" "$(state "$2") $(hash "$1.seg")" "COMPLETED $want"
	[ "$bad" = 0 ] && bad=$before || grep -v '^ ' "$1-$2.txt" | cut -c1-150 | sed 's/^/# /' | tail -n 20
}
for launch in mpirun srun; do
	id=$(job $launch-asked $launch -N 4 -n 4) && under_way $launch-asked "$id" && scancel --batch --signal=USR1 "$id"
	ends_well $launch-asked "$id" '^status 99, to be run again'

	id=$(job $launch-killed $launch -N 3 -n 5) && under_way $launch-killed "$id"
	pgrep -f "^[^ ]*seg-train .*-o $launch-killed.seg" | tail -n 1 | xargs -r kill -9
	ends_well $launch-killed "$id" '^status 1(37|43), to be run again'
done

# Many streams, each task of the array some of them; those that are there are left alone.
mkdir shards
for i in 0 1 2 3 4; do seg-synth -n 2 --size 64 --start $((10 * i)) >shards/$i.seg; done
mkdir pred && echo mine >pred/3.seg
id=$(sbatch --parsable --array=2-4 "$TOP/pipelines/predict.sbatch" mpirun-asked.seg pred shards/*.seg)
for i in $(seq 300); do [ -n "$(squeue -h -j "$id" 2>/dev/null)" ] || break; sleep 0.1; done
wrong=
for i in 0 1 2 4; do seg-predict --logits -m mpirun-asked.seg <shards/$i.seg | cmp -s - pred/$i.seg || wrong="$wrong $i"; done
is "array: every stream predicted" "$wrong $(cat pred/3.seg) $(ls pred | wc -l)" " mine 5"

# A node is cut off in mid-run: mpirun notices; under srun Slurm does, when the node does not answer.
for launch in mpirun srun; do
	id=$(job $launch-cut $launch -N 3 -n 6) && under_way $launch-cut "$id"
	lost=$(scontrol show hostnames "$(squeue -h -j "$id" -o %N)" | tail -n 1)
	ip link set "segv${lost#segh}" down
	ends_well $launch-cut "$id" '^status 205, to be run again|DUE TO NODE FAILURE'
	is "$launch-cut: without $lost" "$(scontrol show hostnames "$(scontrol -o show job "$id" | sed 's/.* NodeList=//;s/ .*//')" | grep -c "^$lost$")" 0
	ip link set "segv${lost#segh}" up
	for i in $(seq 60); do # the next job needs it
		[ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 4 ] && break
		sleep 1; scontrol update NodeName="$lost" State=RESUME 2>/dev/null
	done
	[ "$i" -lt 60 ] || no "$launch-cut: $lost comes back" "$(sinfo -N -h -o '%N %T' | tr '\n' ' ')"
done
finish
