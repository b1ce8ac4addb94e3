"""The report of `inspect --html` in Chromium: it loads nothing, obeys nothing, and can be read."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import urllib.request

import pytest
from harness import DEADLINE, centralcap, key_of, replay, until
from websocket import create_connection

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium")


class Page:
    """A page in a browser, asked by the protocol of its developer tools."""

    def __init__(self, port):
        def tabs():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=DEADLINE) as answer:
                return [tab for tab in json.load(answer) if tab["type"] == "page"]

        tab = until(tabs, "tab")[0]
        self.socket = create_connection(
            tab["webSocketDebuggerUrl"], timeout=DEADLINE, suppress_origin=True
        )
        self.numbers, self.events = itertools.count(1), []

    def ask(self, method, **params):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (said := json.loads(self.socket.recv())).get("id") != number:
            self.events.append(said)
        assert "error" not in said, said
        return said["result"]

    def open(self, path, scripts=True):
        for domain in ("Page", "Network", "Log", "Runtime", "Security"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.ask("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def said(self, method):
        return [event["params"] for event in self.events if event["method"] == method]

    def value(self, expression):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path, width=1400, scheme="light"):
        self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=1000, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(home):
    process = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--remote-debugging-port=0", f"--user-data-dir={home}/data", "about:blank"],
        env={**os.environ, "HOME": str(home)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        said = home / "data/DevToolsActivePort"
        ready = lambda: said.exists() and said.read_text().splitlines()  # noqa: E731
        page = Page(until(ready, "port")[0])
        yield page
        page.socket.close()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    """What a recorder has made that was stopped, and started again: a gap, with a cause and times."""
    folder = tmp_path_factory.mktemp("outage")
    ca, captures = folder / "ca.pem", folder / "captures"
    environment = {**os.environ, "CENTRALCAP_KEY": key_of("north")}
    with replay(source.path, "--ca-out", ca) as feed:
        for _ in range(2):
            centralcap(
                "record", "--hostname", feed.hostname, "--ca", ca, "--topic", "monitoring",
                "--stop-after-messages", 20, "-o", f"{captures}/", env=environment,
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    report = folder / "report.html"
    centralcap("inspect", "--html", report, folder / "captures", expected=3)
    with browser(tmp_path_factory.mktemp("browser")) as page:
        page.open(report)
        yield page


@pytest.fixture(scope="module")
def gap(folder):
    said = centralcap("inspect", "--gaps", "--json", folder / "captures", expected=3).stdout
    document = json.loads(said)
    [gap] = document["subscriptions"][0]["coverage"]["gaps"]
    return gap


def test_it_loads_nothing_and_breaks_no_rule_of_its_own(page, folder):
    requests = [said["request"]["url"] for said in page.said("Network.requestWillBeSent")]
    assert requests == [(folder / "report.html").as_uri()]
    assert page.said("Log.entryAdded") == []
    assert page.said("Runtime.exceptionThrown") == []
    # Its own style sheet is one that the policy allows.
    assert page.value("getComputedStyle(document.querySelector('.facts')).display") == "grid"


def test_nothing_else_could_be_loaded(page):
    """Should something get in after all that is more than text."""
    page.value(
        """document.body.insertAdjacentHTML("beforeend",
            `<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><b id="no" style="color:red">x</b>`);
        const script = document.createElement("script");
        script.textContent = "document.title = 'obeyed'";
        document.body.append(script);"""
    )

    def three_refusals():
        # What the browser says comes with its answers.
        page.value("0")
        return len(page.said("Log.entryAdded")) == 3

    until(three_refusals, "three refusals")
    assert page.value("document.title") != "obeyed"
    assert page.value("document.images[0].naturalWidth") == 0
    assert page.value("getComputedStyle(document.querySelector('#no')).color") != "rgb(255, 0, 0)"


def test_the_gap_is_told_and_drawn_where_it_is(page, gap):
    told = page.value("[...document.querySelectorAll('#gap-1 time')].map(time => time.dateTime)")
    assert told == [gap["from"], gap["to"]]
    row = page.value("document.querySelector('#gap-1').innerText")
    assert gap["from"][:23] + "Z" in row
    assert gap["cause"] == "shutdown" and "shutdown" in row
    # What is drawn there leads to that row, and says when it was.
    at = "[...document.querySelectorAll('#subscriptions svg.row a rect')][0]"
    assert gap["from"][:23] + "Z" in page.value(f"{at}.textContent")
    assert page.value(f"{at}.parentElement.href.baseVal") == "#gap-1"
    hit = f"""(() => {{
        const box = {at}.getBoundingClientRect();
        window.scrollTo(0, window.scrollY + box.top - 200);
        const now = {at}.getBoundingClientRect();
        return document.elementFromPoint(now.x + now.width / 2, now.y + now.height / 2) === {at};
    }})()"""
    assert page.value(hit) is True


@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_differs_by_light(page, tmp_path, scheme, width):
    page.screenshot(tmp_path / "page.png", width, scheme)
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth") is True
    background = page.value("getComputedStyle(document.documentElement).backgroundColor")
    brightness = sum(map(int, background[4:-1].split(", "))) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60
    # Every drawing has got room.
    narrow = page.value(
        """[...document.querySelectorAll("svg.row, svg.rates, svg.axis")]
            .filter(svg => svg.getBoundingClientRect().width < 150).length"""
    )
    assert narrow == 0


def test_it_is_the_same_without_scripts(folder, tmp_path):
    with browser(tmp_path) as page:
        page.open(folder / "report.html", scripts=False)
        root = page.ask("DOM.getDocument")["root"]["nodeId"]
        rows = page.ask("DOM.querySelectorAll", nodeId=root, selector="#gaps tbody tr")
        assert len(rows["nodeIds"]) == 1


@pytest.mark.parametrize("width", [400, 1280])
def test_no_time_below_a_drawing_is_written_over_another(folder, tmp_path, width):
    with browser(tmp_path) as page:
        page.open(folder / "report.html")
        page.screenshot(tmp_path / "page.png", width)
        # What is shown of each line of an axis ends before the next begins.
        collisions = """[...document.querySelectorAll("svg.axis")].flatMap(axis =>
            [".time", ".day"].flatMap(line => {
                const boxes = [...axis.querySelectorAll(line)].map(text => text.getBoundingClientRect())
                    .filter(box => box.width > 0).sort((a, b) => a.left - b.left);
                return boxes.slice(1).filter((box, index) => box.left < boxes[index].right + 2);
            })).length"""
        assert page.value("document.querySelectorAll('svg.axis .time').length") > 0
        assert page.value(collisions) == 0
