"""Measures what receiving and recording cost the processor, beside a bare client that throws all away.

Both read the same frames from a `replay` of their own, over TLS on this machine, in turn and several
times over. All of a process counts, from its start, and user and system time together; the server's
does not. `record` is looked at twice: when its file has all frames, and when it has ended, which is
when all is sealed. Other work on the machine makes both slower, so the median of each counts.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "5"))
DEADLINE = 300
TOPIC = "monitoring"  # whose frames have about 1 kB

# Of the header and the length of each frame in a capture: MCAP's Message.
RECORD_SIZE = 9 + 22

# Connections, frames of each, and frames per second of each (None: as fast as it goes).
CASES = [(1, 100_000, 10_000), (50, 2_000, 200), (1, 300_000, None), (50, 6_000, None)]

command_line, client, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def synth(frames, rate):
    """A capture of so many frames, and how many bytes these have."""
    path = place / f"receive-{frames}-{rate}.mcap"
    path.unlink(missing_ok=True)
    options = ["--seed", "3", "--devices", "200", "--messages", str(frames), "--topics", TOPIC]
    options += ["--rate", str(rate)] if rate else []
    subprocess.run([command_line, "--quiet", "synth", *options, "--output", path], check=True)
    inspected = subprocess.run(
        [command_line, "inspect", "--json", path], check=True, capture_output=True, text=True
    )
    content = json.loads(inspected.stdout)["totals"]
    assert content["frames"] == frames
    return path, content["bytes"]


class Replay:
    """A server that begins when so many clients are there."""

    def __init__(self, capture, connections, rate):
        self.ca = place / "receive-ca.pem"
        command = [command_line, "--quiet", "replay", capture, "--speed", "1" if rate else "max"]
        command += ["--wait-clients", str(connections), "--ca-out", self.ca]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.hostname = json.loads(self.process.stdout.readline())["hostname"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def seconds_of(pid):
    """Of a process that runs: what it has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ended(process):
    """Waits for the process, and says what it has used of the processor."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{process.args[0]} has ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def throw_away(capture, connections, frames, rate):
    with Replay(capture, connections, rate) as server:
        command = [client, server.hostname, server.ca, TOPIC, str(connections), str(frames)]
        return ended(subprocess.Popen(command))


def record(capture, connections, frames, rate, size):
    """Returns what it had used when it had all, and when all was sealed."""
    folder = place / "receive-recorded"
    subprocess.run(["rm", "-rf", folder], check=True)
    accounts = place / "receive-accounts.json"
    names = {f"c{i}": {"wsskey": "synthetic-key", "topic": TOPIC} for i in range(connections)}
    accounts.write_text(json.dumps({"customers": names}))
    expected = connections * (size + frames * RECORD_SIZE)
    with Replay(capture, connections, rate) as server:
        command = [command_line, "--quiet", "record", "--hostname", server.hostname]
        command += ["--ca", server.ca, "--input", accounts, "--output", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE
        before = 0
        # What is there besides frames is less than a last look finds.
        while (now := sum(hot.stat().st_size for hot in folder.glob("*.open.mcap"))) < expected or now > before:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                sys.exit(f"{now} bytes were recorded of {expected}")
            before = now
            time.sleep(0.2)
        received = seconds_of(process.pid)
        process.send_signal(signal.SIGINT)
        sealed = ended(process)
    inspected = subprocess.run(
        [command_line, "inspect", "--json", folder], check=True, capture_output=True, text=True
    )
    content = json.loads(inspected.stdout)["totals"]
    if content["frames"] != connections * frames:
        sys.exit(f"{content['frames']} frames were kept of {connections * frames}")
    return received, sealed


def main():
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    for connections, frames, rate in CASES:
        capture, size = synth(frames, rate)
        bare, received, sealed = [], [], []
        for _ in range(ROUNDS):
            bare.append(throw_away(capture, connections, frames, rate))
            seconds = record(capture, connections, frames, rate, size)
            received.append(seconds[0])
            sealed.append(seconds[1])
        bare, received, sealed = map(statistics.median, (bare, received, sealed))
        each = 1e6 / (connections * frames)
        how = f"{connections * rate:,} frames/s" if rate else "as fast as it goes"
        rows.append(
            (f"{connections} × {frames:,} frames of {size / frames:.0f} bytes, {how}",
             f"{bare * each:.2f} µs", f"{received * each:.2f} µs", f"**{received / bare:.2f}**",
             f"{sealed * each:.2f} µs", f"{sealed / bare:.2f}")
        )  # fmt: skip
    print("\nFor each frame, all of the process, user and system time:\n")
    print("| | bare client | `record`, all in the file | ratio | and all sealed | ratio |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("|", " | ".join(row), "|")


main()
