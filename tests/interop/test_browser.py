"""A page in Chromium as the client: it says in the URL what it cannot say in headers."""

import base64
import contextlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from urllib.parse import urlencode

import pytest
from harness import DEADLINE, by_subscription, key_of, replay

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CERTUTIL = shutil.which("certutil")
pytestmark = pytest.mark.skipif(not (CHROMIUM and CERTUTIL), reason="no chromium, or no certutil")

TOPIC = "audit"

PAGE = """<!doctype html><script>
const received = [], socket = new WebSocket(%s);
socket.binaryType = "arraybuffer";
socket.onmessage = ({data}) =>
  received.push(btoa(String.fromCharCode(...new Uint8Array(data))));
socket.onclose = ({code}) =>
  fetch("/done", {method: "POST", body: JSON.stringify({code, received})});
</script>"""


class Site:
    """Serves the page, and hears what came of it."""

    def __init__(self, page):
        self.said, self.over = None, threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(page.encode())

            def do_POST(self):
                site.said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(b"")
                site.over.set()

            def answer(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def trust(home, ca):
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    for options in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "replay", "-i", ca]):
        subprocess.run([CERTUTIL, "-d", f"sql:{database}", *options], check=True)


def browse(home, feed, topic):
    """How the connection was closed, and what came before that."""
    query = urlencode({"topic": topic, "authorization": key_of("north")})
    with contextlib.closing(Site(PAGE % json.dumps(f"{feed.url}?{query}"))) as site:
        browser = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-proxy-server", f"--user-data-dir={home}/data", site.url],
            env={**os.environ, "HOME": str(home)}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert site.over.wait(DEADLINE), "the page has said nothing"
        finally:
            browser.kill()
            browser.wait()
    return site.said["code"], [base64.b64decode(frame) for frame in site.said["received"]]


@pytest.fixture
def once(source, tmp_path):
    options = ["--once", "--accounts", source.accounts, "--ca-out", tmp_path / "ca.pem"]
    with replay(source.path, *options) as feed:
        yield feed


def test_a_browser_that_trusts_the_authority_gets_the_exact_bytes(source, once, tmp_path):
    trust(tmp_path, once.ca)
    code, received = browse(tmp_path, once, TOPIC)
    assert code == 1000
    assert received == by_subscription(source.frames)[f"north-{TOPIC}"]


def test_a_browser_is_refused_what_there_is_not(feed, tmp_path):
    trust(tmp_path, feed.ca)
    assert browse(tmp_path, feed, "weather") == (1006, [])


def test_a_browser_that_does_not_know_the_authority_does_not_connect(feed, tmp_path):
    assert browse(tmp_path, feed, TOPIC) == (1006, [])
