"""Measures how fast `replay` serves a capture, sealed and hot, beside a bare server that sends from memory,
and how punctual it is to many clients at once.

Both serve the same frames over TLS to the same bare client, on this machine, in turn and several times
over: the median of each counts. The time is that of the client, from its start to its last frame. What the
server costs is all that it has used of the processor by then, less what it had used when it was ready.

A sealed capture has to be unpacked meanwhile, by the same processor. What is left of the bare server's speed
when it does that, and nothing else, is measured in the same run.
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
FRAMES = int(os.environ.get("FRAMES", "300000"))
TOPIC = "monitoring"  # whose frames have about 1 kB

# Connections, frames of each, and frames per second of each.
PUNCTUAL = (200, 1500, 50)

command_line, bare, client, place = *sys.argv[1:4], Path(sys.argv[4])


def synth(frames, rate=None):
    path = place / f"serve-{frames}-{rate}.mcap"
    path.unlink(missing_ok=True)
    options = ["--seed", "3", "--devices", "200", "--messages", str(frames), "--topics", TOPIC]
    options += ["--rate", str(rate)] if rate else []
    subprocess.run([command_line, "--quiet", "synth", *options, "--output", path], check=True)
    return path


class Server:
    """Runs from its ready line to the end of the block."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.hostname = json.loads(self.process.stdout.readline())["hostname"]
        self.before = self.used()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def used(self):
        """Of the processor, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self):
        """Of memory, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


def receive(server, ca, connections, frames):
    """Seconds that it took, of the processor for the server and for the client, and the server's memory."""
    started = time.monotonic()
    process = subprocess.Popen([client, server.hostname, ca, TOPIC, str(connections), str(frames)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "the client has failed"
    return seconds, server.used() - server.before, usage.ru_utime + usage.ru_stime, server.peak()


def fast():
    sealed, ca = synth(FRAMES), place / "serve-ca.pem"
    hot = place / "serve-hot.open.mcap"
    hot.unlink(missing_ok=True)
    subprocess.run([bare, "hot", sealed, place / "serve-hot.mcap"], check=True)
    replay = [command_line, "--quiet", "replay", "--speed", "max", "--ca-out", ca]
    servers = {
        "bare": [bare, sealed, ca],
        "bare, each frame flushed": [bare, "each", sealed, ca],
        "bare, unpacking": [bare, "unpack", sealed, ca],
        "replay, hot": [*replay, hot],
        "replay, sealed": [*replay, sealed],
    }
    found = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, command in servers.items():
            with Server(*command) as server:
                found[name].append(receive(server, ca, 1, FRAMES))
    middle = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in found.items()}
    print(f"\nAs fast as it goes, {FRAMES:,} frames to one client:\n")
    print("| | frames/s | of the bare one | server, for each frame | client, for each frame | memory at most |")
    print("|---|---|---|---|---|---|")
    for name, (seconds, used, clients, peak) in middle.items():
        ratio = middle["bare"][0] / seconds
        each, clients = (f"{1e6 * used / FRAMES:.2f} µs" for used in (used, clients))
        print(f"| {name} | {FRAMES / seconds:,.0f} | **{ratio:.2f}** | {each} | {clients} | {peak:.0f} MiB |")
    ratio = middle["bare, unpacking"][0] / middle["replay, sealed"][0]
    print(f"\nReplay of a sealed capture has **{ratio:.2f}** of the speed of a bare server that unpacks it.")
    hot.unlink()


def punctual():
    connections, frames, rate = PUNCTUAL
    capture, ca, report = synth(frames, rate), place / "serve-ca.pem", place / "serve-report.json"
    command = [command_line, "--quiet", "replay", capture, "--ca-out", ca, "--report", report]
    with Server(*command, "--wait-clients", str(connections)) as server:
        _, used, _, peak = receive(server, ca, connections, frames)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()
    found = json.loads(report.read_text())
    assert found["totals"]["frames"] == connections * frames, found["totals"]
    late = {name: f"{1000 * seconds:.2f} ms" for name, seconds in found["lateness"].items()}
    print(f"\n{connections} clients, {connections * rate:,} frames/s in all, for {frames / rate:.0f} s:\n")
    print("| p50 | p99 | latest | server, for each frame | memory at most |")
    print("|---|---|---|---|---|")
    each = f"{1e6 * used / connections / frames:.2f} µs"
    print(f"| {late['p50']} | {late['p99']} | {late['max']} | {each} | {peak:.0f} MiB |")


place.mkdir(parents=True, exist_ok=True)
fast()
punctual()
