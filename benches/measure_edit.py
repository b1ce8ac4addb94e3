"""Measures what merging captures takes, beside unpacking and packing the same alone.

Both are whole processes on one set of captures, in turn and several times over if that is asked for, and the best of each counts:
by the clock, and by what they used of the processor. What is merged is checked by the command itself, which
counts its frames.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "1"))
CAPTURES = int(os.environ.get("CAPTURES", "20"))
FRAMES = 240_000  # of monitoring: about 100 MB in a sealed capture

command_line, speed, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def ran(*command):
    """Seconds by the clock, seconds of the processor, and the peak of memory in MiB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} has ended with {process.returncode}")
    # What we have ourselves when a process begins counts for it, too: it is far less.
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def synth(seed):
    path = place / f"edit-{seed}.mcap"
    path.unlink(missing_ok=True)
    options = ["--seed", str(seed), "--devices", "200", "--messages", str(FRAMES), "--topics", "monitoring"]
    subprocess.run([command_line, "--quiet", "synth", *options, "--output", path], check=True)
    return path


def frames_of(capture):
    inspected = subprocess.run(
        [command_line, "inspect", "--json", capture], check=True, capture_output=True, text=True
    )
    return json.loads(inspected.stdout)["totals"]["frames"]


def main():
    place.mkdir(parents=True, exist_ok=True)
    captures = [synth(seed) for seed in range(1, CAPTURES + 1)]
    size = sum(capture.stat().st_size for capture in captures)
    merged = place / "edit-merged.mcap"
    alone, merges = [], []
    for _ in range(ROUNDS):
        rows = [ran(speed, capture, "repack") for capture in captures]
        alone.append((sum(row[0] for row in rows), sum(row[1] for row in rows)))
        merged.unlink(missing_ok=True)
        merges.append(ran(command_line, "--quiet", "edit", *captures, "--output", merged))
    assert frames_of(merged) == CAPTURES * FRAMES
    for path in [merged, *captures]:
        path.unlink()
    clock, used = (min(row[index] for row in alone) for index in range(2))
    merge_clock, merge_used = (min(row[index] for row in merges) for index in range(2))
    print(f"\nMerging {CAPTURES} captures, {size / CAPTURES / 1e6:.0f} MB each:\n")
    print("| | unpacked and packed alone | merged | ratio |")
    print("|---|---|---|---|")
    print(f"| by the clock | {clock:.1f} s | {merge_clock:.1f} s | **{merge_clock / clock:.2f}** |")
    print(f"| of the processor | {used:.1f} s | {merge_used:.1f} s | {merge_used / used:.2f} |")
    print(f"\nAt most {max(row[2] for row in merges):.0f} MiB of memory.")


main()
