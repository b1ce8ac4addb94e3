"""Records from a server that is never quiet, and looks at the recorder while it does and at what it has.

Every minute the server cuts a fifth of the connections, in turn by ending the stream behind what it has
sent and by a reset; every five minutes it also stops taking the keys of those. A fifth, because the
recorder makes no more than 20 attempts a second: all would take it 50 seconds. And so all have been cut
once when half of ten minutes is over, and what a second time leaves behind would show. Who is connected
gets the frames of those who are not, so the rate stays the same.

Nothing may be missing of what was sent on a connection that ended in any other way than by a reset. A
reset throws away what is under way, as it would on a real network: there the frames must be the first so
many, in order, and at least as many as the recorder had confirmed by a pong.
"""

import json
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from mcap.reader import make_reader

SUBSCRIPTIONS = 1_000
RATE = 10_000  # frames a second, over all
LONG = int(os.environ.get("SECONDS_LONG", "600"))
CUT_EVERY = min(60, LONG // 4)
KEYS_EVERY = min(300, LONG // 2)
SAMPLE_EVERY = 2

# Limits of the recorder.
MOST_MEMORY = 150 << 20
MOST_THREADS = 63
# From before 0.8 of the time to after 0.9 of it. What takes room once, and keeps it, has come before: the
# first sealings, the first cut of each connection, and after five minutes the first renewal of keys. A leak
# of one byte for each frame would be more than this.
MOST_GROWTH = 0.01

command_line, server, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])
folder, accounts, ca = place / "recorded", place / "accounts.json", place / "ca.pem"
faults = []


def demand(holds, words):
    if not holds:
        faults.append(words)


def sample(pid):
    """Memory in bytes, threads, and file descriptors."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    memory = int(status["VmRSS"].split()[0]) << 10
    return memory, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def heard(feed, event):
    """Reads the server's lines until there is this event."""
    for line in feed.stdout:
        said = json.loads(line)
        if said.get("event") == event:
            return said
    sys.exit(f"the server has ended before {event}")


def watch(recorder, feed):
    """Samples until the server is done. Returns them, and how many frames it has dealt out."""
    begun, samples = time.monotonic(), []
    while not select.select([feed.stdout], [], [], SAMPLE_EVERY)[0]:
        if recorder.poll() is not None:
            sys.exit(f"the recorder has ended by itself, with {recorder.returncode}")
        samples.append((time.monotonic() - begun, *sample(recorder.pid)))
    return samples, json.loads(feed.stdout.readline())["frames"]


def growth(samples):
    """Memory, threads and files when all has been there once, and at the end: the median of the first, and
    the most of the others, which come and go with connections.
    """
    early = [row[1:] for row in samples if 0.65 * LONG <= row[0] < 0.8 * LONG]
    late = [row[1:] for row in samples if row[0] >= 0.9 * LONG]
    return [
        [kind(column) for kind, column in zip((statistics.median, max, max), zip(*rows))]
        for rows in (early, late)
    ]


def kept():
    """The numbers of the frames in the sealed captures, in their order, by connection."""
    found = defaultdict(list)
    for path in sorted(folder.glob("*.mcap")):
        with open(path, "rb") as file:
            for schema, _, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False):
                if schema.name == "StreamMessage.MsgProto":
                    connection = int.from_bytes(message.data[-16:-8], "big")
                    found[connection].append(int.from_bytes(message.data[-8:], "big"))
    return found


def compare(stories, found):
    """What the server has sent with what was kept. Returns the frames lost, and those under way."""
    lost = under_way = 0
    for story in stories:
        numbers = found.pop(story["connection"], [])
        count, sent = len(numbers), story["sent"]
        demand(
            numbers == list(range(1, count + 1)),
            f"a frame is missing, altered, there twice or out of order in {story}",
        )
        demand(count <= sent, f"{count} kept of {story}")
        if story["end"] == "reset":
            lost += max(0, story["kept"] - count)
            under_way += sent - max(count, story["kept"])
        else:
            demand(story["end"] in ("end", "goodbye"), f"nobody asked for that: {story}")
            lost += sent - count
    demand(lost == 0, f"{lost} frames were lost")
    demand(not found, f"frames of connections that never were: {list(found)[:5]}")
    return lost, under_way


def told(stories):
    """What the recorder itself says that it has, and has not."""
    inspected = subprocess.run(
        [command_line, "inspect", "--json", folder], capture_output=True, text=True, check=False
    )
    capture = json.loads(inspected.stdout)
    cuts = defaultdict(int)
    for story in stories:
        cuts[story["subscription"]] += story["end"] in ("end", "reset")
    # 3: something may be missing, and this is all: each cut is a time without a connection.
    gaps = sum(cuts.values())
    words = f"warning: {gaps} gaps" if gaps else ""
    expected = 3 if gaps else 0
    demand(
        (inspected.returncode, inspected.stderr.strip()) == (expected, words),
        f"inspect ends with {inspected.returncode}: {inspected.stderr}",
    )
    demand(len(capture["subscriptions"]) == SUBSCRIPTIONS, "there are other subscriptions")
    for found in capture["subscriptions"]:
        name, sequence = found["name"], found["sequence"]
        demand(sequence["missing"] == 0, f"{name}: {sequence}")
        connected = found["connections"]["connected"]
        demand(connected == cuts[name] + 1, f"{name}: {connected} connections, {cuts[name]} cuts")
    return capture["totals"]


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    subprocess.run(["rm", "-rf", folder], check=True)
    customers = {
        f"c{i:04}": {"wsskey": f"synthetic-key-{i}-0", "topic": "monitoring"}
        for i in range(SUBSCRIPTIONS)
    }
    accounts.write_text(json.dumps({"customers": customers}, indent=1))
    numbers = map(str, (SUBSCRIPTIONS, RATE, LONG, CUT_EVERY, KEYS_EVERY))
    feed = subprocess.Popen([server, ca, *numbers], stdout=subprocess.PIPE, text=True)
    hostname = json.loads(feed.stdout.readline())["hostname"]
    log = open(place / "record.log", "w")
    recorder = subprocess.Popen(
        [command_line, "record", "--hostname", hostname, "--ca", ca, "--input", accounts,
         "--output", folder, "--split-every", "1m", "--log-format", "json"],
        stdout=subprocess.DEVNULL, stderr=log,
    )  # fmt: skip
    try:
        heard(feed, "begun")
        begun = time.monotonic()
        samples, dealt = watch(recorder, feed)
        took = time.monotonic() - begun
        recorder.send_signal(signal.SIGINT)
        stories = [json.loads(line) for line in feed.stdout]
        _, status, usage = os.wait4(recorder.pid, 0)
        recorder.returncode = os.waitstatus_to_exitcode(status)
        feed.wait()
    finally:
        for process in (recorder, feed):
            if process.returncode is None:
                process.kill()

    cuts = sum(story["end"] in ("end", "reset") for story in stories)
    # 3: something is missing, and it says so. Every cut is a time without a connection.
    expected = 3 if cuts else 0
    demand(recorder.returncode == expected, f"the recorder has ended with {recorder.returncode}")
    found = kept()
    frames = sum(map(len, found.values()))
    sent = sum(story["sent"] for story in stories)
    demand(sent == dealt or cuts, f"{sent} frames were sent of {dealt}")
    lost, under_way = compare(stories, found)
    totals = told(stories)
    demand(totals["frames"] == frames, f"inspect says {totals['frames']} frames, not {frames}")
    keys = [customer["wsskey"] for customer in json.loads(accounts.read_text())["customers"].values()]
    renewed = sum(not key.endswith("-0") for key in keys)

    (memory, threads, files), (memory_late, threads_late, files_late) = growth(samples)
    peak = max(row[1] for row in samples)
    demand(peak < MOST_MEMORY, f"{peak >> 20} MiB resident")
    demand(max(row[2] for row in samples) <= MOST_THREADS, "too many threads")
    # Anything shorter is over before all has its size.
    if LONG >= 600:
        demand(memory_late <= memory * (1 + MOST_GROWTH), "memory has grown")
        demand(threads_late <= threads, "threads have become more")
        demand(files_late <= files, "file descriptors have become more")

    print(f"{SUBSCRIPTIONS} subscriptions, {took:.0f} s, {len(stories)} connections, {cuts} cut, {renewed} keys renewed")
    print(f"{sent} frames sent ({sent / took:.0f}/s), {totals['bytes'] / frames:.0f} bytes each; {frames} kept, "
          f"{under_way} under way at a reset, {lost} lost")
    print(f"{len(list(folder.glob('*.mcap')))} segments, {totals['stored_bytes'] / 1e6:.0f} MB")
    print(f"memory {memory / 2**20:.1f} MiB, then {memory_late / 2**20:.1f}, at most {peak / 2**20:.1f}; "
          f"threads {threads:.0f}, then {threads_late:.0f}, at most {max(row[2] for row in samples)}; "
          f"file descriptors {files:.0f}, then {files_late:.0f}, at most {max(row[3] for row in samples)}")
    print(f"processor {usage.ru_utime + usage.ru_stime:.0f} s, of which {usage.ru_stime:.0f} s in the kernel")
    for fault in faults[:20]:
        print("FAULT:", fault)
    sys.exit(1 if faults else 0)


main()
