"""Network faults between a recorder and a feed that are on two sides of a cable, in network namespaces.

After each, the recording has to go on within the bounds that session.rs and net/client.rs set, and its
ledger has to agree with what the script did, and when. Where no namespaces are to be had, there is nothing to test. The
environment variable NETWORK=all adds those faults that take minutes, as it takes `record` so long, on
purpose, to give something up.
"""

import calendar
import contextlib
import itertools
import json
import os
import shlex
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest
from harness import CENTRALCAP, DEADLINE, Shell, until
from mcap.reader import make_reader
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

takes_minutes = pytest.mark.skipif(
    os.environ.get("NETWORK") != "all", reason="takes minutes: only with NETWORK=all"
)

NAME, PORT = "feed.example.com", 8443

# The recorder's side of the cable, and addresses of the feed's side. Resolvers put those first that begin
# like the recorder's own (RFC 6724, section 5, rule 9): the one where everything is swallowed, and those
# where nobody listens, come before the feed's.
RECORDER = "192.0.2.8"
SILENT, NOBODY, FEED, OTHER = "192.0.2.9", "192.0.2.10", "192.0.2.128", "192.0.2.129"

CARD = "02:00:00:00:00:02"

# These bounds, in seconds.
ATTEMPT, DEAD_AFTER, LONGEST_WAIT = 20, 45, 60

# How far the script's clock and what the recorder sees may be apart: a frame is sent every hundredth of a
# second, and the rest is for two busy processors. All that is told apart here takes longer.
TOLERANCE = 0.6

EVERY = 0.01


class Network:
    """A cable with a namespace at each end. The recorder's is that of the shell; the feed's lends us sockets,
    which stay in it whoever uses them."""

    def __init__(self, folder):
        self.folder = folder
        self.lender, self.theirs = socket.socketpair()
        self.lender.settimeout(DEADLINE)
        self.shell = Shell("--net", "--mount", pass_fds=[self.theirs.fileno()])

    def connect(self):
        """Plugs the cable in. False: there is no such thing here."""
        if self.shell.run("unshare --net true") != "0":
            return False
        lend = [sys.executable, os.path.join(os.path.dirname(__file__), "lend.py")]
        self.shell.start("unshare --net", shlex.join(lend), self.theirs.fileno())
        pid = self.lender.recv(100).decode()
        self.there = f"nsenter --net=/proc/{pid}/ns/net"
        far = [FEED, OTHER, NOBODY]
        commands = [
            "ip link set lo up",
            f"ip link add near type veth peer name far netns {pid}",
            f"ip address add {RECORDER}/24 dev near",
            "ip link set near up",
            *(f"{self.there} ip address add {address}/24 dev far" for address in far),
            f"{self.there} ip link set far address {CARD} up",
            # What is sent there arrives, and nobody has anything to say to it.
            f"ip neighbour add {SILENT} dev near lladdr {CARD} nud permanent",
        ]
        files = {
            "resolv.conf": f"nameserver {FEED}\noptions timeout:30 attempts:1\n",
            "nsswitch.conf": "hosts: dns\n",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
            commands.append(f"mount --bind {self.folder}/{name} /etc/{name}")
        return all(self.shell.run(command) == "0" for command in commands)

    def listen(self, address, port, kind="stream"):
        """A socket of the feed's side."""
        self.lender.send(f"{kind} {address} {port}".encode())
        _, [descriptor], _, _ = socket.recv_fds(self.lender, 1, 1)
        return socket.socket(fileno=descriptor)

    @contextlib.contextmanager
    def swallowing(self):
        """While every packet of the feed's side vanishes without a word."""
        self.must(f"{self.there} ip route add blackhole {RECORDER}")
        yield
        self.must(f"{self.there} ip route delete blackhole {RECORDER}")

    @contextlib.contextmanager
    def unplugged(self):
        self.must(f"{self.there} ip link set far down")
        yield
        self.must(f"{self.there} ip link set far up")

    def must(self, command):
        assert self.shell.run(command) == "0", command

    def end(self):
        self.shell.end()
        self.lender.close()
        self.theirs.close()


class Names:
    """A name server that knows the addresses of everything, or fails, or is silent."""

    FAILS, IS_SILENT = "fails", "is silent"

    def __init__(self, network):
        self.addresses = [FEED]
        self.asked = 0
        self.socket = network.listen(FEED, 53, "datagram")
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while (query := self.socket.recvfrom(512))[0]:
            self.asked += 1
            if self.addresses != self.IS_SILENT:
                # Where everything is swallowed, the system says so to whoever sends datagrams.
                with contextlib.suppress(OSError):
                    self.socket.sendto(self.answer(query[0]), query[1])

    def answer(self, query):
        """RFC 1035, section 4.1: there is one question, and only addresses (A) are known."""
        fails = self.addresses == self.FAILS
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4 : end - 2] == b"\0\1"
        addresses = self.addresses if is_a and not fails else []
        counts = struct.pack(">HHHH", 1, len(addresses), 0, 0)
        rows = (b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(one) for one in addresses)
        return query[:2] + (b"\x81\x82" if fails else b"\x81\x80") + counts + query[12:end] + b"".join(rows)

    def end(self):
        # A datagram socket that is shut down gives nothing to whoever reads.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


class Feed:
    """Sends a numbered frame every now and then on each connection, notes when, and ends connections in all
    ways there are."""

    # How a connection ends.
    SAYS_GOODBYE, DIES, RESETS = "says goodbye", "dies", "resets"
    # How far a handshake gets.
    NOTHING, TCP, TLS, HALF_AN_ANSWER = "nothing", "TCP", "TLS", "half an answer"

    def __init__(self, network, certificate):
        self.network = network
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(*certificate)
        self.numbers = itertools.count(1)
        self.sent = {}
        # A pong leaves when all before its ping is kept.
        self.acknowledged = 0
        self.stood = []
        # How far the next ones get; all others are whole. When each of them began, and when the recorder
        # gave it up.
        self.handshakes = []
        self.attempts = []
        self.ending = None
        self.pauses = False
        self.connections = []
        self.listening = None

    def start(self, address=FEED):
        listener = self.network.listen(address, PORT)
        acceptor = threading.Thread(target=self.accept, args=[listener])
        acceptor.start()
        self.listening = listener, acceptor

    def stop_listening(self):
        listener, acceptor = self.listening
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()

    def end_connections(self, how):
        """Ends them, and returns when that was."""
        self.ending = how
        at = time.time()
        for thread in self.connections:
            thread.join()
        self.connections, self.ending = [], None
        return at

    def end(self):
        self.stop_listening()
        self.end_connections(self.DIES)

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                thread = threading.Thread(target=self.serve, args=[connection])
                self.connections.append(thread)
                thread.start()

    def serve(self, stream):
        with contextlib.suppress(OSError), contextlib.ExitStack() as closing:
            closing.callback(lambda: stream.close())
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handshake = self.handshakes.pop(0) if self.handshakes else None
            if handshake == self.NOTHING:
                return
            if handshake == self.TCP:
                return self.hang(stream)
            stream.settimeout(ATTEMPT)
            stream = self.tls.wrap_socket(stream, server_side=True)
            protocol = ServerProtocol()
            while protocol.state is not OPEN:
                data = stream.recv(65536)
                if handshake:
                    return self.hang(stream, trickles=handshake == self.HALF_AN_ANSWER)
                protocol.receive_data(data)
                for request in protocol.events_received():
                    protocol.send_response(protocol.accept(request))
            self.flush(stream, protocol)
            self.stood.append(time.time())
            self.feed(stream, protocol)

    def feed(self, stream, protocol):
        while not self.ending:
            if not self.pauses:
                number = next(self.numbers)
                self.sent[number] = time.time()
                protocol.send_binary(number.to_bytes(8, "big"))
                protocol.send_ping(number.to_bytes(8, "big"))
            self.flush(stream, protocol)
            stream.settimeout(EVERY)
            with contextlib.suppress(TimeoutError):
                data = stream.recv(65536)
                if not data:
                    return
                protocol.receive_data(data)
                for frame in protocol.events_received():
                    if frame.opcode is Opcode.PONG:
                        self.acknowledged = int.from_bytes(frame.data, "big")
                if protocol.close_expected():
                    return self.flush(stream, protocol)
        if self.ending == self.SAYS_GOODBYE:
            protocol.send_close(1012)
            self.flush(stream, protocol)
            stream.recv(65536)
        if self.ending == self.RESETS:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @staticmethod
    def flush(stream, protocol):
        # Much longer than a cable is unplugged.
        stream.settimeout(10 * ATTEMPT)
        for data in protocol.data_to_send():
            stream.sendall(data)

    def hang(self, stream, trickles=False):
        """Says nothing more, or hardly anything, until the other side has gone."""
        began = time.time()
        answer = iter(b"HTTP/1.1 101 Switching Protocols\r\nX-Padding: " + 10 * ATTEMPT * b"x")
        stream.settimeout(1)
        with contextlib.suppress(OSError):
            while not self.ending:
                if trickles:
                    stream.send(bytes([next(answer)]))
                with contextlib.suppress(TimeoutError):
                    if not stream.recv(65536):
                        break
        self.attempts.append((began, time.time()))


class Recorder:
    """`record`, on its side of the cable."""

    def __init__(self, network, folder):
        self.shell, self.folder, self.words = network.shell, folder / "capture", folder / "words"
        options = ["--hostname", f"wss://{NAME}:{PORT}", "--insecure", "--topic", "monitoring"]
        command = [CENTRALCAP, "record", *options, "-o", str(self.folder)]
        self.pid = self.shell.start(f"CENTRALCAP_KEY=synthetic-key {shlex.join(command)} 2>{self.words}")

    def said(self):
        return self.words.read_text()

    def kill(self, signal):
        assert self.shell.run(f"kill -{signal} {self.pid}") == "0"

    def stop(self, expected):
        stopped = time.time()
        self.kill("TERM")
        assert self.shell.run(f"wait {self.pid}") == str(expected), self.said()
        return Ledger(self.folder, stopped)


class Ledger:
    """What a capture says, read by parts that nobody here wrote as far as there are such."""

    def __init__(self, folder, stopped):
        self.stopped = stopped
        command = [CENTRALCAP, "inspect", "--gaps", "--json", folder]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode in (0, 3), done.stderr
        [subscription] = json.loads(done.stdout)["subscriptions"]
        self.coverage = subscription["coverage"]
        self.gaps = self.coverage["gaps"]
        history = subscription["history"]
        assert history["left_out"] == 0
        self.events = history["first"] + history["last"]
        self.kept = {}
        for segment in sorted(folder.glob("*.mcap")):
            with open(segment, "rb") as file:
                for schema, _, message in make_reader(file).iter_messages(log_time_order=False):
                    if schema.name == "StreamMessage.MsgProto":
                        number = int.from_bytes(message.data, "big")
                        assert number not in self.kept, "a frame is there twice"
                        self.kept[number] = message.log_time / 1e9

    def of(self, event):
        return [one for one in self.events if one["event"] == event]

    def agrees_with(self, feed, faults):
        """Faults are (since when nothing arrived, when it was over, why, the longest that the recorder may
        wait before an attempt and for it), in order."""
        print(json.dumps(self.gaps, indent=1))
        assert len(self.gaps) == len(faults), self.gaps
        assert len(feed.stood) == len(faults) + 1
        for gap, fault, stood in zip(self.gaps, faults, feed.stood[1:]):
            began, over, cause, most = fault
            assert gap["cause"] == cause
            assert abs(moment(gap["from"]) - began) < TOLERANCE, (gap, began)
            assert abs(moment(gap["to"]) - stood) < TOLERANCE, (gap, stood)
            # Back-off may have been at its longest for so many attempts when the fault was over.
            wait = min(2 ** gap["attempts"], LONGEST_WAIT)
            assert stood - over < wait + most + TOLERANCE, (gap, over, stood)

        # Frames are in order, and those that are missing were sent in gaps.
        assert list(self.kept) == sorted(self.kept)
        ends = [(moment(gap["from"]), moment(gap["to"])) for gap in self.gaps]
        for number in feed.sent.keys() - self.kept.keys():
            # Or on their way when the recorder was stopped.
            sent = feed.sent[number]
            assert sent > self.stopped - TOLERANCE or any(
                begin - TOLERANCE < sent < end + TOLERANCE for begin, end in ends
            ), f"frame {number} is missing without a word"
        for number, received in self.kept.items():
            assert not any(begin < received < end for begin, end in ends), f"frame {number}"


def moment(text):
    """Seconds since 1970, rounded as the times of frames are, so that equal times stay equal."""
    whole, fraction = text.removesuffix("Z").split(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return (seconds * 10**9 + int(fraction.ljust(9, "0"))) / 1e9


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of nobody, for everybody: the recorder is told not to look."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, "-subj", f"/CN={NAME}"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    return certificate, key


@pytest.fixture
def network(tmp_path):
    try:
        network = Network(tmp_path)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    try:
        if not network.connect():
            pytest.skip("there are no network namespaces, or no cables between them")
        yield network
    finally:
        network.end()


@pytest.fixture
def names(network):
    names = Names(network)
    yield names
    names.end()


@pytest.fixture
def feed(network, names, certificate):
    feed = Feed(network, certificate)
    feed.start()
    yield feed
    feed.end()


@pytest.fixture
def other_feed(network, names, certificate):
    """On the address that resolvers put first."""
    feed = Feed(network, certificate)
    feed.start(NOBODY)
    yield feed
    feed.end()


@pytest.fixture
def recorder(network, feed, tmp_path):
    recorder = Recorder(network, tmp_path)
    yield recorder
    # It is gone already, unless the test has failed.
    network.shell.run(f"kill -KILL {recorder.pid}")


def some_frames(feed, connections):
    """Waits until the feed has had so many connections, and some frames from now on are kept."""
    until(lambda: len(feed.stood) == connections, f"connection {connections}")
    enough = len(feed.sent) + 20
    until(lambda: feed.acknowledged >= enough, "frames that are kept")


def test_a_connection_that_is_reset_is_made_again_at_once(feed, recorder):
    some_frames(feed, connections=1)
    at = feed.end_connections(Feed.RESETS)
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    ledger.agrees_with(feed, [(at, at, "network", 0)])
    assert "reset" in ledger.of("closed")[0]["reason"]


@pytest.mark.parametrize(
    ("how", "cause"), [(Feed.SAYS_GOODBYE, "server"), (Feed.DIES, "network")], ids=["stopped", "killed"]
)
def test_a_server_that_is_started_again_is_found_again(feed, recorder, how, cause):
    some_frames(feed, connections=1)
    feed.stop_listening()
    at = feed.end_connections(how)
    until(lambda: "refused" in recorder.said(), "attempt that is refused")
    feed.start()
    over = time.time()
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    ledger.agrees_with(feed, [(at, over, cause, 0)])
    assert ledger.of("closed")[0]["clean"] == (how == Feed.SAYS_GOODBYE)


@pytest.mark.parametrize("fault", [Network.swallowing, Network.unplugged])
def test_a_short_cut_costs_nothing(network, feed, recorder, fault):
    some_frames(feed, connections=1)
    with fault(network):
        before = feed.acknowledged
        time.sleep(1.5)
        # What was on its way when the cable was cut may have come.
        assert len(feed.sent) - feed.acknowledged > 50 > feed.acknowledged - before
    some_frames(feed, connections=1)
    acknowledged = feed.acknowledged
    ledger = recorder.stop(expected=0)
    ledger.agrees_with(feed, [])
    assert list(ledger.kept)[:acknowledged] == list(range(1, acknowledged + 1))


def test_a_recorder_that_is_stopped_says_since_when_nothing_came(network, feed, recorder):
    some_frames(feed, connections=1)
    with network.swallowing():
        at = time.time()
        time.sleep(1)
        ledger = recorder.stop(expected=3)
    [gap] = ledger.gaps
    assert gap["cause"] == "network"
    assert abs(moment(gap["from"]) - at) < TOLERANCE, (gap, at)
    assert moment(gap["to"]) >= ledger.stopped


def test_a_name_is_looked_up_each_time_and_all_its_addresses_are_tried(feed, names, recorder):
    some_frames(feed, connections=1)
    names.addresses = Names.FAILS
    at = feed.end_connections(Feed.RESETS)
    until(lambda: "cannot resolve" in recorder.said(), "attempt without a name")
    feed.stop_listening()
    feed.start(OTHER)
    # Each address has its share of the time, so that the first one does not take all of it. Nobody
    # listens on the second one.
    names.addresses = [OTHER, *[NOBODY] * 8, SILENT]
    over = time.time()
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    ledger.agrees_with(feed, [(at, over, "network", ATTEMPT / 10)])
    peers = [one["peer"].split(":")[0] for one in ledger.of("connected")]
    assert peers == [FEED, OTHER]
    assert ledger.of("connected")[1]["round_trip_seconds"] > ATTEMPT / 10, "not all were tried"
    assert "cannot resolve" in ledger.of("failed")[0]["reason"]



def test_an_address_that_hangs_up_is_followed_by_the_next_one(feed, other_feed, names, recorder):
    some_frames(feed, connections=1)
    names.addresses = [FEED, NOBODY]
    other_feed.handshakes = [Feed.NOTHING]
    at = feed.end_connections(Feed.RESETS)
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    assert other_feed.handshakes == []
    ledger.agrees_with(feed, [(at, at, "network", 0)])
    assert ledger.of("failed") == []


@takes_minutes
@pytest.mark.parametrize("fault", [Network.swallowing, Network.unplugged])
def test_a_long_cut_is_noticed_after_45_seconds(network, feed, recorder, fault):
    some_frames(feed, connections=1)
    with fault(network):
        at = time.time()
        # The first attempt after it comes to nothing, too.
        time.sleep(DEAD_AFTER + 10)
    over = time.time()
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    ledger.agrees_with(feed, [(at, over, "network", ATTEMPT)])
    [closed, _] = ledger.of("closed")
    assert abs(moment(closed["at"]) - at - DEAD_AFTER) < 2 * TOLERANCE, closed
    assert closed["reason"] == "nothing was heard for 45 s"


@takes_minutes
def test_a_peer_that_knows_nothing_of_the_connection_any_more_is_noticed_by_a_ping(
    network, feed, recorder
):
    some_frames(feed, connections=1)
    with network.swallowing():
        at = feed.end_connections(Feed.RESETS)
        time.sleep(DEAD_AFTER / 2)
    over = time.time()
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    # The gap begins when nothing came any more, and not when that was found out.
    ledger.agrees_with(feed, [(at, over, "network", DEAD_AFTER / 2)])
    [closed, _] = ledger.of("closed")
    assert "reset" in closed["reason"] and moment(closed["at"]) > over, closed


@takes_minutes
def test_a_quiet_feed_is_no_dead_one(feed, recorder):
    some_frames(feed, connections=1)
    feed.pauses = True
    time.sleep(DEAD_AFTER + 10)
    feed.pauses = False
    some_frames(feed, connections=1)
    recorder.stop(expected=0).agrees_with(feed, [])


@takes_minutes
def test_a_recorder_that_was_stopped_reads_what_came_meanwhile(feed, recorder):
    some_frames(feed, connections=1)
    recorder.kill("STOP")
    time.sleep(DEAD_AFTER + 10)
    recorder.kill("CONT")
    some_frames(feed, connections=1)
    recorder.stop(expected=0).agrees_with(feed, [])


@takes_minutes
def test_a_handshake_that_comes_to_no_end_is_given_up_after_20_seconds(feed, recorder):
    some_frames(feed, connections=1)
    feed.handshakes = [Feed.TCP, Feed.TLS, Feed.HALF_AN_ANSWER]
    at = feed.end_connections(Feed.RESETS)
    for count in range(1, 4):
        until(lambda: len(feed.attempts) == count, "attempt that is given up")
    over = time.time()
    some_frames(feed, connections=2)
    for began, ended in feed.attempts:
        assert abs(ended - began - ATTEMPT) < TOLERANCE
    ledger = recorder.stop(expected=3)
    ledger.agrees_with(feed, [(at, over, "network", 0)])
    assert [one["reason"] for one in ledger.of("failed")] == [
        f"no connection within 20 s: {FEED}:{PORT} does not answer"
    ] * 3


@takes_minutes
def test_an_address_that_does_not_answer_is_tried_last_the_next_time(feed, other_feed, names, recorder):
    some_frames(feed, connections=1)
    names.addresses = [FEED, NOBODY]
    other_feed.handshakes = [Feed.TCP] * 10
    at = feed.end_connections(Feed.RESETS)
    until(lambda: other_feed.attempts, "attempt that is given up")
    over = time.time()
    some_frames(feed, connections=2)
    ledger = recorder.stop(expected=3)
    ledger.agrees_with(feed, [(at, over, "network", 0)])
    assert len(other_feed.attempts) == 1


@takes_minutes
def test_a_silent_name_server_takes_an_attempt_and_no_more(feed, names, recorder):
    some_frames(feed, connections=1)
    names.addresses = Names.IS_SILENT
    at = feed.end_connections(Feed.RESETS)
    until(lambda: "no connection within 20 s" in recorder.said(), "attempt that is given up")
    names.addresses = [FEED]
    over = time.time()
    some_frames(feed, connections=2)
    # Whoever is asked to stop does not wait for a name.
    names.addresses = Names.IS_SILENT
    asked = names.asked
    feed.end_connections(Feed.RESETS)
    until(lambda: names.asked > asked, "question that is not answered")
    asked_to_stop = time.monotonic()
    ledger = recorder.stop(expected=3)
    assert time.monotonic() - asked_to_stop < 2
    failed = ledger.of("failed")[0]
    assert abs(moment(failed["at"]) - at - ATTEMPT) < 1 + TOLERANCE
    last = ledger.gaps.pop()
    assert abs(moment(last["to"]) - ledger.stopped) < TOLERANCE
    feed.sent = {number: sent for number, sent in feed.sent.items() if number in ledger.kept}
    ledger.agrees_with(feed, [(at, over, "network", 0)])
