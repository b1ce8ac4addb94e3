"""Measures how fast a capture is proven, beside what zstd takes to unpack it, and how much memory that needs.

Whole processes on one capture, in turn and several times over, and the best of each counts, by the clock; zstd
in memory is measured as in speed.rs, by the time for which the processor worked on it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "5"))
FRAMES = 480_000  # of all topics: about 530 MB of records

command_line, speed, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def ran(*command, cores=None):
    """Seconds by the clock, and the peak of memory in MiB."""
    begun = time.perf_counter()
    alone = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if cores == 1 else None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=alone)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} has ended with {process.returncode}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def zstd(capture):
    """Seconds, and the bytes of all chunks."""
    measured = subprocess.run([speed, capture, "zstd"], check=True, capture_output=True, text=True)
    _, seconds, size = measured.stdout.split("\t")
    return float(seconds), int(size)


def main():
    place.mkdir(parents=True, exist_ok=True)
    capture = place / "verify.mcap"
    capture.unlink(missing_ok=True)
    options = ["--seed", "3", "--devices", "200", "--messages", str(FRAMES)]
    subprocess.run([command_line, "--quiet", "synth", *options, "--output", capture], check=True)
    best, memory = {}, 0

    def note(name, seconds):
        best[name] = min(seconds, best.get(name, seconds))

    for _ in range(ROUNDS):
        seconds, size = zstd(capture)
        note("zstd", seconds)
        note("unpack", ran(speed, capture, "unpack")[0])
        for cores in (1, None):
            seconds, used = ran(command_line, "inspect", "--verify", capture, cores=cores)
            note(cores, seconds)
            memory = max(memory, used)
    capture.unlink()

    def row(words, name):
        others = "".join(f" | {best[other] / best[name]:.2f}" for other in ("zstd", "unpack"))
        print(f"| {words} | {size / best[name] / 1e6:,.0f} MB/s{others} |")

    cores = len(os.sched_getaffinity(0))
    print(f"\nProving a capture with {size / 1e6:.0f} MB of records, of which MB are:\n")
    print("| | | of zstd in memory | of a process that unpacks |")
    print("|---|---|---|---|")
    row("zstd in memory, one thread", "zstd")
    row("a process that reads a sealed capture and unpacks it, one thread", "unpack")
    row("`inspect --verify` of that capture, one core", 1)
    row(f"`inspect --verify` of that capture, {cores} cores", None)
    print(f"\nAt most {memory:.0f} MiB of memory.")


main()
