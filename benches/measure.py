"""Measures the built command and what it is compared with, and prints a table in Markdown.

Everything is measured in turn, several times over, and the best of each counts. Processes are measured
by the clock, ways within a process by the time for which the processor worked on them.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.internal import api_implementation
from mcap.reader import NonSeekingReader

KEPT = 16 << 20  # as in speed.rs
ROUNDS = 5

command_line, speed, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def run(*arguments):
    """Runs a process to its end, and returns the seconds by the clock."""
    begun = time.perf_counter()
    subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def peak(*paths, threads):
    """The peak memory of a decode, in words. What we have ourselves when a process begins would count for
    it, too, so something small starts it."""
    if not os.path.exists("/usr/bin/time"):
        return ""
    command = ["/usr/bin/time", "-f", "%M", command_line, "--quiet", "decode", "--threads", str(threads)]
    timed = subprocess.run(
        [*command, *paths], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
    )
    return f"at most {int(timed.stderr.split()[-1]) / 1024:.0f} MiB of memory"


def decode(*paths, threads=2, to=None, limit=None):
    output = ["--output", to] if to else []
    output += ["--limit", str(limit)] if limit else []
    if to:
        to.unlink(missing_ok=True)
    return run(command_line, "--quiet", "decode", "--threads", str(threads), *output, *paths)


def synth(name, messages, devices=200):
    """A capture of so many frames, and how many bytes these have."""
    path = place / name
    path.unlink(missing_ok=True)
    options = ["--seed", "3", "--devices", str(devices), "--messages", str(messages)]
    run(command_line, "--quiet", "synth", *options, "--output", path)
    return path, sum(len(data) for _, data in frames_of(path))


def frames_of(path):
    with open(path, "rb") as file:
        for schema, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
            if not channel.topic.endswith("/session"):
                yield schema, message.data


def frames_for_python(path):
    """The frames that speed.rs keeps, each with its class."""
    classes, frames, left = {}, [], KEPT
    for schema, data in frames_of(path):
        left -= len(data)
        if left < 0:
            break
        if schema.id not in classes:
            pool = descriptor_pool.DescriptorPool()
            for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                pool.Add(file)
            found = pool.FindMessageTypeByName(schema.name)
            classes[schema.id] = message_factory.GetMessageClass(found)
        frames.append((classes[schema.id], data))
    return frames


def python(frames):
    begun = time.process_time()
    for kind, data in frames:
        message = kind()
        message.ParseFromString(data)
        json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True))
    return time.process_time() - begun


def instructions(path):
    """Of the walk, for each byte of the frames; None without valgrind."""
    if not shutil.which("valgrind"):
        return None
    out = place / "callgrind.out"
    counted = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--toggle-collect=speed::walk*",
         speed, path, "walk"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    collected = next(line for line in counted.stderr.splitlines() if "Collected" in line)
    return int(collected.split()[-1]) / int(counted.stdout.split()[-1])


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def main():
    place.mkdir(parents=True, exist_ok=True)
    # Frames of all types, and next to no bytes: whoever starts up reads schemas and makes plans.
    tiny, _ = synth("tiny.mcap", 100, devices=3)
    small, small_size = synth("small.mcap", 1_000)
    middle, middle_size = synth("middle.mcap", 5_000)
    large, size = synth("large.mcap", 120_000)
    repeats = -(-(2 << 30) // size)
    frames = frames_for_python(large)

    best = {}

    def note(name, seconds):
        best[name] = min(seconds, best.get(name, seconds))

    for turn in range(ROUNDS):
        measured = subprocess.run([speed, large], check=True, capture_output=True, text=True)
        sizes = {}
        for line in measured.stdout.splitlines():
            name, seconds, sizes[name] = line.split("\t")
            note(name, float(seconds))
        # Two threads need both cores to be free of others at once.
        for _ in range(4):
            note("unpack", run(speed, large, "unpack"))
            for threads in (1, 2):
                note(threads, decode(large, threads=threads))
        note("file", decode(large, to=place / "large.ndjson"))
        for _ in range(4):
            note("first", decode(large, limit=1))
            note("starting", decode(tiny, threads=1))
            note("small", decode(small, threads=1))
        if turn < 2:
            note("python", python(frames))
            note("huge", decode(*[large] * repeats, threads=1))
    (place / "large.ndjson").unlink()
    counted = instructions(middle)

    in_memory = sum(len(data) for _, data in frames)
    if in_memory != int(sizes["walk"]):
        sys.exit("Python and Rust did not measure the same frames")

    def rate(size, name):
        return f"{size / best[name] / 1e6:.3g} MB/s"

    def times(other, ours):
        return f"{best[other] / best[ours]:.3g}"

    upb = f"protobuf {version('protobuf')} ({api_implementation.Type()}), Python {platform.python_version()}"
    zstd = best["unpack"]
    rows = [
        ("frames in memory to NDJSON, one thread", rate(in_memory, "walk"), ""),
        ("the same by prost-reflect and serde_json", rate(in_memory, "prost-reflect"),
         f"{times('prost-reflect', 'walk')} times slower"),
        (f"the same by {upb}", rate(in_memory, "python"), f"{times('python', 'walk')} times slower"),
        ("zstd in memory, one thread", rate(size, "zstd"), ""),
        ("a process that reads a sealed capture and unpacks it, one thread", rate(size, "unpack"), ""),
        ("`decode` of that capture, one thread", rate(size, 1), f"{zstd / best[1]:.2f} of that"),
        ("`decode` of that capture, two threads", rate(size, 2), f"{zstd / best[2]:.2f} of that"),
        ("the same into a file", rate(size, "file"), f"{zstd / best['file']:.2f} of that"),
    ]  # fmt: skip
    # Whoever starts up pays that once.
    for name, length, paths in (
        ("small", small_size, [small]),
        (1, size, [large]),
        ("huge", size * repeats, [large] * repeats),
    ):
        cost = f"{(best[name] - best['starting']) / length * 1e9:.2f} ns for each byte"
        row = f"{length / 1e6:,.0f} MB of frames, one thread"
        rows.append((row, cost, peak(*paths, threads=1)))
    row = f"{size * repeats / 1e6:,.0f} MB of frames, two threads"
    rows.append((row, "", peak(*[large] * repeats, threads=2)))
    rows.append(("starting up: the process, all schemas and plans", f"{best['starting'] * 1e3:.1f} ms", "not in the costs above"))
    rows.append(("`decode --limit 1` of the large one", f"{best['first'] * 1e3:.1f} ms", ""))
    if counted:
        rows.append(("instructions for each byte of frames", f"{counted:.1f}", "by callgrind"))

    print(f"\n{machine()}; MB are those of frames as they came\n")
    print("| | | |\n|---|---|---|")
    for row in rows:
        print("|", " | ".join(row), "|")


main()
