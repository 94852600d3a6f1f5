"""The time of a training step by ranks P, batch over all ranks and network, as a closed formula.

step          = compute + agreements + partials + gradient
compute       = ms per sample * threads * ceil(b / threads), b samples in the largest share: a sample
                is one thread's; but fewer than threads share them, and are 1.65 times as fast
agreements    = 6 collectives, each rank's int to all: before the batch, after each piece of own work
partials      = 2 collectives, of 4 and 2 doubles of every sample: the sums of the loss
gradient      = 2 collectives: the nodes' segments to their owners, the sums back; and, through
                memory, cutting the own nodes into segments and adding up the segments received
a collective  = log2 P rounds, in each a message that doubles what a rank has; the segments go to their
                owners at once, P - 1 messages
a round       = messages * handling + wait(latency + bytes received / bandwidth)
handling      = processor time of a message sent and one received
bytes         = those a rank gets from the others, with 16 per message for its envelope; in the
                exchange of segments, those that the rank with the most nodes sends
nodes         = the aligned subtrees a rank's share of the batch consists of: 1 if each has b samples
                and b is a power of two (of P nothing is asked), else up to 2 log2 b
bandwidth     = 0.94 of the link's (headers of Ethernet and TCP), / 1.05 (acknowledgements of the
                other direction)
wait(t)       = t until the next look: ranks nap an eighth of what they have waited, 1 to 1000 us

usage: model.py            the table of the manual
       model.py networks   for run.sh: name, bandwidth and latency of a link, arguments of step
       model.py compare    simulated rows from stdin (network P batch step-ms comm-ms) beside the formula
"""
import sys

PARAMETERS = 485853
THREADS = 2
MS_PER_SAMPLE = 17.0   # wall, both threads at work
SHARED = 1.65          # how much faster two threads are than one, on one sample
MEMORY = 5e3           # bytes per us, one pass
# bytes per us; us between two hosts; us of handling a message: as measured for Open MPI over TCP and
# where the kernel takes no part in a message
NETWORKS = {"10Gb/s": (1.25e3, 10.0, 8.0), "100Gb/s": (12.5e3, 3.0, 0.8)}
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SAMPLES = (1, 2, 16)


def share(n, r, size):
    return n // size * r + n % size * r // size


def nodes(lo, hi):
    """How many aligned subtrees [lo, hi) consists of."""
    count = 0
    while lo < hi:
        length = 1
        while lo % (2 * length) == 0 and 2 * length <= hi - lo:
            length *= 2
        lo += length
        count += 1
    return count


def wait(t):
    look = 0
    while look < t:
        look += min(max(int(look / 8), 1), 1000)
    return look


def step(network, p, batch):
    """ms: compute, messages, gradient; messages: whatever grows with their number."""
    bandwidth, latency, handling = NETWORKS[network]
    bandwidth *= 0.94 / 1.05
    largest = -(-batch // p)
    compute = MS_PER_SAMPLE * THREADS * (-(-largest // THREADS) if largest >= THREADS else 1 / SHARED)
    if p == 1:
        return compute, 0.0, 0.0

    def arrives(messages, nbytes):
        return messages * handling + wait(latency + (nbytes + 16 * messages) / bandwidth)

    def gather(nbytes):  # of all ranks
        t, have = 0, 1
        while have < p:
            t += arrives(1, min(have, p - have) * nbytes / p)
            have *= 2
        return t

    own = [nodes(share(batch, r, p), share(batch, r + 1, p)) for r in range(p)]
    vector = 4 * PARAMETERS
    messages = 6 * gather(4 * p) + gather(8 * 4 * batch) + gather(8 * 2 * batch) + (p - 1) * handling
    gradient = arrives(p - 1, max(own) * vector * (p - 1) / p) - (p - 1) * handling + gather(vector) \
        + (max(own) + sum(own) / p) * vector / MEMORY
    return compute, messages / 1e3, gradient / 1e3


def limit(compute, messages, gradient):
    if messages + gradient < 0.05 * compute:
        return "c"
    return "m" if messages > gradient else "g"


def table():
    for network, (_, latency, handling) in NETWORKS.items():
        print(f"{network}, {latency:g} us between hosts, {handling:g} us to handle a message")
        print("      " + "".join(f"{f'{b} per rank':^20}" for b in SAMPLES).rstrip())
        print(("ranks" + "    step comm  eff. " * len(SAMPLES)).rstrip())
        for p in RANKS:
            line = f"{p:5}"
            for b in SAMPLES:
                c, m, g = step(network, p, b * p)
                line += f"  {c + m + g:6.1f} {m + g:4.1f} {100 * c / (c + m + g):3.0f}% {limit(c, m, g)}"
            print(line)
        print()
    print("step, comm: ms of a step, and of communication in it; eff.: share of computing;")
    print("what limits: c computing, g the gradient's bytes, m the number of messages")


def compare(rows):
    print(f"{'network':8} {'ranks':>5} {'batch':>5} {'b':>5} | step ms: {'SMPI':>7} {'model':>7} {'diff':>6} | "
          f"comm ms: {'SMPI':>6} {'model':>6} {'ratio':>5} | {'efficiency':>10}")
    for network, p, batch, simulated, comm in (r.split() for r in rows):
        c, m, g = step(network, int(p), int(batch))
        simulated, comm = float(simulated), float(comm)
        print(f"{network:8} {p:>5} {batch:>5} {int(batch) / int(p):5.4g} | {simulated:16.1f} {c + m + g:7.1f} {100 * (c + m + g) / simulated - 100:+5.1f}% | "
              f"{comm:15.2f} {m + g:6.2f} {(m + g) / comm:5.2f} | {100 * c / simulated:9.1f}%", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["networks"]:
        for name, (bandwidth, latency, handling) in NETWORKS.items():
            print(f"{name} {bandwidth * 1e6:.0f}Bps {latency / 2:g}us {PARAMETERS} {THREADS} {MS_PER_SAMPLE:g} {SHARED:g} {handling:g} {MEMORY / 1e3:g}")
    elif sys.argv[1:] == ["compare"]:
        compare(sys.stdin)
    else:
        table()
