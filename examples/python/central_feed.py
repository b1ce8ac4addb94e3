"""The streaming feed of Aruba Central as a pytest fixture: a capture that `centralcap replay` serves.

    def test_x(central_feed):
        connect(central_feed.url, ca=central_feed.ca)

Each test gets a feed of its own, which starts in milliseconds. A marker says what plays in it; all that
`centralcap replay` takes can be said, a list for what may be said more than once. Files that it reads are
beside the test, wherever pytest was started:

    @pytest.mark.central_feed("night.mcap", speed=10, scenario="flaky-network", expect=["audit>=5"])

What a test does not say comes from pytest's own command line: --central-capture, --central-speed and
--central-faults. The command is found by the environment variable CENTRALCAP, or on the PATH. What it has
said is shown with a test that fails, and a replay that ends badly (an `expect` that was not met) is an
error of the test.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

import pytest

# A replay ends within milliseconds of being asked to. What takes so many seconds has hung.
DEADLINE = 30

# Options of `centralcap replay` that name a file to read.
INPUTS = {"accounts", "cert", "faults", "key"}


class Feed(NamedTuple):
    """What a client has to know about a feed, and what plays there."""

    # wss://127.0.0.1:PORT/streaming/api
    url: str
    # 127.0.0.1:PORT, as in the vendor's --hostname.
    hostname: str
    # A file with the authority to trust (PEM); None with plain=True or a cert of your own.
    ca: str | None
    # What can be subscribed to.
    topics: list[str]
    # The file that is served.
    capture: pathlib.Path
    # http://127.0.0.1:PORT, with control=0.
    control: str | None


def pytest_addoption(parser):
    group = parser.getgroup("central_feed", "the feed of the fixture central_feed")
    group.addoption("--central-capture", metavar="FILE", help="the capture that is served")
    group.addoption("--central-speed", metavar="N", default="max", help="how fast: 1, 10, max (default)")
    group.addoption("--central-faults", metavar="WHAT", help="a file with rules, or the name of a scenario")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "central_feed(capture, **options): what the fixture serves, and options of replay"
    )


@pytest.fixture
def central_feed(request):
    """A feed for one test."""
    capture, options = wanted(request)
    with replay(capture, **options) as feed:
        yield feed


def wanted(request):
    """The capture and the options: those of the marker, and what it leaves open from the command line."""
    config, marker = request.config, request.node.get_closest_marker("central_feed")
    capture = config.getoption("central_capture")
    beside = request.path.parent
    if marker and marker.args:
        capture = beside / marker.args[0]
    said = dict(marker.kwargs) if marker else {}
    for name in INPUTS & said.keys():
        said[name] = beside / said[name]
    options = {"speed": config.getoption("central_speed")} | said
    faults = config.getoption("central_faults")
    if faults and said.keys().isdisjoint({"faults", "scenario"}):
        options["faults" if os.path.exists(faults) else "scenario"] = faults
    if not capture:
        fail("which capture? Say --central-capture FILE, or @pytest.mark.central_feed(FILE)")
    return pathlib.Path(capture), options


@contextlib.contextmanager
def replay(capture, **options):
    """The same without a test, say for a fixture of another scope."""
    command = [binary(), "replay", "--verbose", *flags(options), "--", str(capture)]
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True)
        try:
            # The first line, or none if it could not start.
            line = process.stdout.readline()
            if line:
                ready = json.loads(line)
                authority, control = ready.get("ca"), ready.get("control")
                yield Feed(
                    ready["url"], ready["hostname"], authority, ready["topics"], capture, control
                )
        finally:
            code = end(process)
            words.seek(0)
            # pytest shows it if the test has failed.
            sys.stderr.write(words.read())
    if not line or code != 0:
        what = "ended" if line else "did not start, and ended"
        fail(f"centralcap replay {what} with exit code {code}: see its words on stderr")


def binary():
    """The command."""
    named = os.environ.get("CENTRALCAP", "centralcap")
    found = shutil.which(named)
    if not found:
        fail(f"found no command {named}: put centralcap on the PATH, or its path into CENTRALCAP")
    return found


def flags(options):
    """`loop_delay="1s"` as --loop-delay 1s; `from_` is for --from, which Python keeps for itself."""
    for name, value in options.items():
        flag = "--" + name.rstrip("_").replace("_", "-")
        if value is True:
            yield flag
        elif value is not None and value is not False:
            for each in value if isinstance(value, (list, tuple)) else [value]:
                yield from (flag, str(each))


def fail(reason):
    """Where in this file that came up is of no use to anybody."""
    pytest.fail(reason, pytrace=False)


def end(process):
    """Asks it to end, as its clients are told then and its reports written. Returns the exit code."""
    with process.stdout:
        process.terminate()
        try:
            return process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
