"""`inspect --tui` in a terminal, which tmux is: it goes where keys say, and gives the terminal back."""

import os
import shlex
import shutil
import subprocess

import pytest
from harness import CENTRALCAP, DEADLINE, centralcap, until
from test_terminal import OBEYED, evil  # noqa: F401

TMUX = shutil.which("tmux")
pytestmark = pytest.mark.skipif(not TMUX, reason="no tmux")


class Terminal:
    """A shell in a terminal of 120 columns and 36 lines."""

    def __init__(self, folder):
        self.folder, self.socket = folder, folder / "tmux"
        environment = {**os.environ, "PS1": "ready$ ", "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "36", "sh", "-i",
            env=environment, cwd=folder,
        )  # fmt: skip

    def tmux(self, *words, **options):
        done = subprocess.run(
            [TMUX, "-u", "-S", str(self.socket), *map(str, words)],
            capture_output=True, text=True, timeout=DEADLINE, check=False, **options,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, what):
        """What tmux knows of the terminal."""
        return self.tmux("display-message", "-p", f"#{{{what}}}").strip()

    def type(self, text, *keys):
        if text:
            self.tmux("send-keys", "-l", "--", text)
        if keys:
            self.tmux("send-keys", *keys)

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def see(self, *words):
        """Waits until all of that is on the screen, and returns the screen."""

        def has():
            screen = self.screen()
            return screen if all(word in screen for word in words) else None

        try:
            return until(has, repr(words))
        except AssertionError:
            print(self.screen())
            raise

    def start(self, *words):
        command = shlex.join(map(str, (CENTRALCAP, *words)))
        self.type(f"clear; {command}; echo code=$?", "Enter")

    def is_given_back(self, code):
        """The shell has the terminal again, with what it showed before, and echoes what is typed."""
        self.see(f"code={code}")
        assert self.ask("alternate_on") == "0"
        assert self.ask("cursor_flag") == "1"
        self.type("stty -a > stty; echo done-$((6 * 7))", "Enter")
        self.see("echo done-$((6 * 7))", "\ndone-42")
        assert {"icanon", "echo", "isig"} < set((self.folder / "stty").read_text().split())


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(tmp_path)
    try:
        terminal.see("ready$")
        yield terminal
    finally:
        terminal.tmux("kill-server")


def test_it_goes_where_it_is_told_and_leaves_the_terminal_as_it_was(terminal, source):
    frames = source.frames
    count = len(frames)
    terminal.start("inspect", "--tui", source.path)
    # Fields are beside the bytes that they are.
    screen = terminal.see(f" {count} frames ", " frame 1 of ", "? help")
    [line] = [line for line in screen.splitlines() if line.startswith(" 000000 ")]
    assert frames[0].data[:2].hex(" ") in line, line
    assert "LEN" in line, line
    assert terminal.ask("alternate_on") == "1"

    for keys, expected in [(("j", "j", "Down"), 4), (("G",), count), (("g",), 1)]:
        terminal.type("", *keys)
        terminal.see(f" frame {expected} of ")

    south = [place for place, frame in enumerate(frames, 1) if frame.subscription == "south-audit"]
    terminal.type("fsouth audit", "Enter")
    terminal.see(f" {len(south)} of {count} frames match ", f" frame {south[0]} of south-audit")
    terminal.type("", "Down")
    terminal.see(f" frame {south[1]} of south-audit")
    terminal.type("", "Escape")
    terminal.see(f" {count} frames ", f" frame {south[1]} of south-audit")

    last = centralcap("decode", source.path, "--limit", 1000).stdout.splitlines()[-1]
    moment = last.split('"received":"')[1].split('"')[0]
    terminal.type(f"t{moment}", "Enter")
    terminal.see(" frame 1000 of ")
    terminal.type("#77", "Enter")
    terminal.see(" frame 77 of ")

    terminal.type("#2001", "Enter")
    terminal.see(" frame 2001 of ")
    terminal.type("/nobody has this", "Enter")
    terminal.see("is in none of the 999 frames behind this one")
    customer = frames[1999].decoded.customer_id
    terminal.type(f"/{customer}", "Enter")
    terminal.see("N to the one before")
    terminal.type("#2001", "Enter")
    terminal.see(" frame 2001 of ")
    terminal.type("N")
    terminal.see(" frame 2000 of ", "N to the one before")

    terminal.type("?")
    terminal.see("search on, or back")
    terminal.type("x")
    terminal.type("d")
    terminal.see('"received"')
    # It is drawn anew in a terminal of any size, and says so where nothing can be seen.
    for size, expected in [(("20", "4"), "too small"), (("60", "12"), '"received"')]:
        terminal.tmux("resize-window", "-x", size[0], "-y", size[1])
        terminal.see(expected)
    terminal.type("q")
    terminal.is_given_back(0)


@pytest.mark.parametrize("end", ["C-c", "TERM", "INT"])
def test_however_it_ends_the_terminal_is_given_back(terminal, source, end):
    terminal.start("inspect", "--tui", source.path)
    terminal.see(" frame 1 of ")
    if end == "C-c":
        terminal.type("", end)
    else:
        children = ["pgrep", "-P", terminal.ask("pane_pid")]
        found = subprocess.run(children, capture_output=True, text=True, check=True)
        [child] = found.stdout.split()
        subprocess.run(["kill", f"-{end}", child], check=True)
    terminal.is_given_back(0)


def test_what_a_hostile_capture_says_is_shown_and_not_obeyed(terminal, evil):  # noqa: F811
    title = terminal.ask("pane_title")
    terminal.start("inspect", "--tui", evil)
    screen = terminal.see("? help", " frame ", r"\u{1b}[2J", "damaged place")
    terminal.type("d")
    screen += terminal.see('"subject"', r"\u202e")
    assert not set(screen.replace("\n", "")) & set(OBEYED), screen
    assert terminal.ask("pane_title") == title
    terminal.type("q")
    terminal.is_given_back(3)


def test_what_cannot_be_read_is_an_error_as_everywhere(terminal):
    (terminal.folder / "other").write_text("something else")
    terminal.start("inspect", "--tui", "other")
    terminal.see("error: expected a capture, found something else in other")
    terminal.is_given_back(1)


def test_what_is_no_terminal_is_refused(source):
    done = centralcap("inspect", "--tui", source.path, expected=2)
    assert "expected a terminal, found none" in done.stderr
    assert "hint: " in done.stderr
