"""What a measure must know of its machine: who else uses it. Linux; standard library only."""
import os
import time

TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """In which any core ran anything (user, nice, system, irq, softirq)."""
    with open("/proc/stat") as f:
        n = [int(x) for x in f.readline().split()[1:8]]
    return (n[0] + n[1] + n[2] + n[5] + n[6]) / TICKS


def process_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Foreign:
    """Cores that processes kept busy which are neither this one, nor ended children of it, nor among pids."""

    def __init__(self, pids=()):
        self.pids = list(pids)
        self.clock, self.all, self.own = time.monotonic(), busy_seconds(), self.own_seconds()

    def own_seconds(self):
        t = os.times()
        return t.user + t.system + t.children_user + t.children_system + sum(map(process_seconds, self.pids))

    def cores(self):
        foreign = (busy_seconds() - self.all) - (self.own_seconds() - self.own)
        return max(0.0, foreign / (time.monotonic() - self.clock))


def processor():
    with open("/proc/cpuinfo") as f:
        names = [l.split(":", 1)[1].strip() for l in f if l.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else "unknown"
