# What fails on one rank ends all of them within seconds: never a hang, never status 0, one line that
# says who and where, and the last good checkpoint is as it was.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS
[ "${MPI:-yes}" != yes ] && { skip "ranks that fail" "not built with Open MPI"; finish; }
host=$(hostname)
$PYTHON - <<'P'
import numpy as np, segpy
rng = np.random.default_rng(1)
def make(name, bad=None):
    recs = []
    for i in range(12):
        im = rng.random((32, 32, 2)).astype("f4")
        if i == bad:
            im[3, 4, 1] = np.nan
        recs.append((f"s{i}", {"image.npy": im, "label.npy": rng.integers(0, 3, (32, 32)).astype("u1")}))
    segpy.write(name, segpy.header("abc", "multiclass"), recs)
make("good.seg"), make("nan.seg", 11)
P
seg-augment hflip <good.seg >framed.seg 2>/dev/null || cp good.seg framed.seg
seg-synth -n 12 --size 32 >s.seg

# run to its end, or killed: seconds it took in $took, status in $rc
train() { timeout -k 2 60 mpirun -q -np 3 seg-train --channels 4,8 -o m.seg "$@" 2>err </dev/null; }
mine() { pgrep -f "seg-train .*$PWD/c.seg" || true; }
fast() { [ "$2" -le "$3" ] && ok "$1: over in seconds" || no "$1: over in seconds" "$2 s"; }

start=$SECONDS; train -i nan.seg --batch 12 --no-shuffle --epochs 1; rc=$?
is "NaN in the batch of one rank: status" $rc 1
is "NaN: one line" "$(grep -c '^seg-train: ' err)" 1
match "NaN: who, where, which sample" "$(grep '^seg-train: ' err)" "^seg-train: rank 2 on $host: nan.seg: sample s11: image is NaN at y 3 x 4, channel 1"
fast "NaN" $((SECONDS - start)) 15

# a byte of the last sample, which rank 2 reads alone
cp s.seg torn.seg
size=$(stat -c %s torn.seg)
printf '\377' | dd of=torn.seg bs=1 seek=$((size - 3000)) conv=notrunc 2>/dev/null
start=$SECONDS; train -i torn.seg --batch 12 --no-shuffle --epochs 1; rc=$?
is "a corrupt sample seen by one rank: status" $rc 3
match "corrupt: who and where" "$(grep '^seg-train: ' err)" "^seg-train: rank 2 on $host: .*torn.seg: sample 11"
fast "corrupt" $((SECONDS - start)) 15

# Killed while it trains: a rank, then mpirun itself.
for victim in rank mpirun; do
	rm -f c.seg m.seg
	timeout -k 2 60 mpirun -q -np 3 seg-train -i s.seg --channels 4,8 --batch 5 --epochs 100000 -o m.seg --checkpoint "$PWD/c.seg" 2>err </dev/null &
	pid=$!
	until [ -e c.seg ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
	start=$SECONDS
	[ $victim = rank ] && kill -9 "$(mine | grep -v -x "$(pgrep -P $pid mpirun)" | tail -n 1)" || kill -9 "$(pgrep -P $pid mpirun)"
	wait $pid; rc=$?
	[ $rc != 0 ] && ok "kill -9 of $victim: status $rc" || no "kill -9 of $victim: status 0"
	for i in $(seq 50); do [ -z "$(mine)" ] && break; sleep 0.1; done
	is "kill -9 of $victim: nobody is left" "$(mine)" ""
	fast "kill -9 of $victim" $((SECONDS - start)) 15
	is "kill -9 of $victim: the checkpoint is whole" "$(seg-info c.seg >/dev/null 2>&1; echo $?)" 0
	[ -e m.seg ] && no "kill -9 of $victim: no model" || ok "kill -9 of $victim: no model"
	pkill -9 -f "seg-train .*$PWD/c.seg"
done

# A rank that stands still: nothing is closed, nobody is told.
rm -f c.seg m.seg
timeout -k 2 60 mpirun -q -np 3 seg-train -i s.seg --channels 4,8 --batch 5 --epochs 100000 -o m.seg --checkpoint "$PWD/c.seg" --timeout 0.05 2>err </dev/null &
pid=$!
until [ -e c.seg ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
start=$SECONDS
kill -STOP "$(mine | grep -v -x "$(pgrep -P $pid mpirun)" | tail -n 1)"
wait $pid; rc=$?
is "a rank that is stopped: status" $rc 1
match "a rank that is stopped: what the others say" "$(grep -a '^seg-train: ' err)" "^seg-train: rank [01] on $host: .*: the other ranks have not answered for 3 s"
fast "a rank that is stopped" $((SECONDS - start)) 15
for i in $(seq 50); do [ -z "$(mine)" ] && break; sleep 0.1; done
is "a rank that is stopped: nobody is left" "$(mine)" ""

# A disk that is full when the second checkpoint comes.
mkdir disk
if mount -t tmpfs -o size=1m tmpfs disk 2>/dev/null; then
	train -i s.seg --batch 5 --epochs 2 --checkpoint disk/c.seg; rc=$?
	is "a disk with room: status" $rc 0
	was=$(sha256sum <disk/c.seg)
	dd if=/dev/zero of=disk/fill bs=4k 2>/dev/null # as much as goes
	start=$SECONDS; train -i s.seg --batch 5 --epochs 4 --checkpoint disk/c.seg --resume; rc=$?
	is "a full disk: status" $rc 1
	match "a full disk: one line" "$(grep '^seg-train: ' err)" "^seg-train: rank 0 on $host: checkpoint: .*disk/c.seg.*No space left"
	is "a full disk: the last checkpoint is as it was" "$(sha256sum <disk/c.seg)" "$was"
	fast "a full disk" $((SECONDS - start)) 15
	umount disk
else
	skip "a full disk" "tmpfs cannot be mounted here"
fi
finish
