"""The examples for other people's tests: that they work where all is well, and say so where it is not.

What `examples/python` has in `tests/` runs beside this.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tomllib
from xml.etree import ElementTree

import pytest
import yaml
from harness import CENTRALCAP, DEADLINE, centralcap

REPOSITORY = pathlib.Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
CAMPUS = REPOSITORY / "fixtures/campus.mcap"


class TestPytest:
    """What the fixture does around a test, seen from outside."""

    def run(self, folder, text, *arguments):
        """Runs pytest on a file with this text, and returns what it printed."""
        (folder / "test_it.py").write_text(text)
        done = subprocess.run(
            [
                sys.executable,
                "-B",
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--color=no",
                *arguments,
                folder,
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return done.stdout

    def ask(self, verdict="True"):
        """A test that asks for its key to be validated, and says where."""
        return (
            "import requests\n"
            f"def test_{verdict}(central_feed):\n"
            '    url = f"https://{central_feed.hostname}/streaming/token/validate"\n'
            '    answer = requests.get(url, headers={"Authorization": "k"}, verify=central_feed.ca)\n'
            "    assert answer.status_code == 200\n"
            '    print("it was at", central_feed.hostname, "at the end")\n'
            f"    assert {verdict}\n"
        )

    def test_the_words_of_the_feed_are_shown_with_a_test_that_fails(self, tmp_path):
        said = self.run(tmp_path, self.ask("True") + self.ask("False"), "--central-capture", CAMPUS)
        assert "1 failed, 1 passed" in said
        # Not with the other one.
        assert said.count("was answered 200") == 1
        # And the feed has ended.
        host, port = re.search(r"it was at (\S+):(\d+) at the end", said).groups()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))

    def test_a_feed_that_ends_badly_is_an_error(self, tmp_path):
        mark = f'import pytest\npytestmark = pytest.mark.central_feed("{CAMPUS}", expect=["audit>=1"])\n'
        said = self.run(tmp_path, mark + self.ask())
        assert "1 passed, 1 error" in said
        assert "ended with exit code 1" in said
        assert "error: expected at least 1 frame" in said

    def test_a_feed_that_cannot_start_says_why(self, tmp_path):
        text = (
            "import pytest\n"
            "def test_without_a_capture(central_feed): pass\n"
            '@pytest.mark.central_feed("no.mcap")\n'
            "def test_with_no_such_capture(central_feed): pass\n"
            "@pytest.fixture\n"
            'def nowhere(monkeypatch): monkeypatch.setenv("CENTRALCAP", "no-such-command")\n'
            f'@pytest.mark.central_feed("{CAMPUS}")\n'
            "def test_without_the_command(nowhere, central_feed): pass\n"
        )
        said = self.run(tmp_path, text)
        assert "3 errors" in said
        assert "which capture?" in said
        assert "did not start, and ended with exit code 1" in said
        # Looked for beside the test.
        assert re.search(f"error: .*{tmp_path}/no.mcap", said)
        assert "found no command no-such-command" in said

    def test_the_command_line_counts_where_a_test_says_nothing(self, tmp_path):
        rules = tmp_path / "rules.toml"
        rules.write_text("[[rule]]\nwhen = { nth = 1 }\ndo = { refuse = { status = 418 } }\n")
        marked = f'@pytest.mark.central_feed("{CAMPUS}", scenario="refused-handshakes", speed=10)\n'
        text = (
            "import pytest, websocket\n"
            "def refused(feed):\n"
            "    with pytest.raises(websocket.WebSocketBadStatusException) as refused:\n"
            '        header = {"Authorization": "k", "Topic": "audit"}\n'
            '        websocket.create_connection(feed.url, header=header, sslopt={"ca_certs": feed.ca})\n'
            "    return refused.value.status_code\n"
            "def test_open(central_feed):\n"
            f'    assert str(central_feed.capture) == "{CAMPUS}"\n'
            "    assert refused(central_feed) == 418\n"
            f"{marked}"
            "def test_said(central_feed):\n"
            "    assert refused(central_feed) == 503\n"
        )
        options = ["--central-capture", CAMPUS, "--central-faults", rules]
        assert "2 passed" in self.run(tmp_path, text, *options)
        said = self.run(tmp_path, text, *options, "--central-speed", "warp")
        assert "1 passed, 1 error" in said and "warp" in said

    def test_the_files_of_a_marker_are_beside_the_test(self, tmp_path):
        (tmp_path / "feed.mcap").write_bytes(CAMPUS.read_bytes())
        rule = '[[rule]]\nwhen = { request = "validate" }\ndo = { refuse = { status = 418 } }\n'
        (tmp_path / "rules.toml").write_text(rule)
        mark = 'import pytest\npytestmark = pytest.mark.central_feed("feed.mcap", faults="rules.toml")\n'
        said = self.run(tmp_path, mark + self.ask().replace("200", "418"))
        assert "1 passed" in said, said

    def test_it_is_made_with_what_it_is_tested_with(self):
        project = tomllib.loads((EXAMPLES / "python/pyproject.toml").read_text())
        # A project has a pytest of its own, with which this has to get along.
        assert not any("==" in needed for needed in project["project"]["dependencies"])
        pins = [*project["build-system"]["requires"]]
        for extra in project["project"]["optional-dependencies"].values():
            pins += extra
        installed = (REPOSITORY / "tests/interop/requirements.txt").read_text().splitlines()
        assert len(pins) > 3 and set(pins) <= set(installed)


def node(**environment):
    """The tests in examples/node, by node's own test runner."""
    return subprocess.run(
        ["node", "--test", "--test-reporter=tap"],
        cwd=EXAMPLES / "node",
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_node():
    done = node()
    assert done.returncode == 0, done.stdout
    assert "# pass 3" in done.stdout


def test_node_says_what_to_do_without_the_command():
    done = node(CENTRALCAP="no-such-command")
    assert done.returncode == 1
    assert done.stdout.count("found no command no-such-command: put centralcap on the PATH") == 3, done.stdout


CLIENT = """
import json, websocket
with open("ready.json") as file:
    ready = json.load(file)
header = {"Authorization": "synthetic-key", "Topic": "audit"}
client = websocket.create_connection(ready["url"], header=header, sslopt={"ca_certs": ready["ca"]}, timeout=30)
assert client.recv_data()[0] == websocket.ABNF.OPCODE_BINARY
client.close()
"""


class TestGitHubActions:
    """The job file, with its steps run as a runner does it."""

    WORKFLOW = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    JOB = WORKFLOW["jobs"]["feed"]

    def test_is_a_workflow(self):
        # YAML 1.1 takes `on` for a truth value; the runner does not.
        assert self.WORKFLOW.keys() == {"name", True, "permissions", "jobs"}
        assert self.WORKFLOW[True] == ["push", "pull_request"]
        for step in self.JOB["steps"]:
            assert ("run" in step) != ("uses" in step), step
            # A tag can be moved to other code.
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step.get("uses", f"actions/x@{'0' * 40}"))

    def test_installs_this_version(self):
        assert centralcap("--version").stdout.split() == ["centralcap", self.JOB["env"]["CENTRALCAP_VERSION"]]

    @pytest.mark.parametrize(
        ("test", "code", "failed"),
        [
            pytest.param(f"{sys.executable} client.py", 0, False, id="works"),
            pytest.param(f"{sys.executable} client.py broken", 7, False, id="fails"),
            pytest.param("true", 1, True, id="never-came"),
        ],
    )
    def test_the_build_fails_with_the_client(self, tmp_path, test, code, failed):
        (tmp_path / "client.py").write_text(CLIENT + "import sys\nsys.exit(7 if sys.argv[1:] else 0)\n")
        done = self.run(tmp_path, {"CAPTURE": str(CAMPUS), "TEST": test})
        assert done.returncode == code, done.stderr
        kept = self.JOB["steps"][-1]["with"]["path"].split()
        assert sorted(path.name for path in tmp_path.glob("report.*")) == kept
        (suite,) = ElementTree.parse(tmp_path / "report.xml").getroot()
        (expected,) = [case for case in suite.iter("testcase") if case.get("name") == "audit>=1"]
        assert (expected.find("failure") is not None) == failed

    def test_a_feed_that_cannot_start_fails_the_build(self, tmp_path):
        done = self.run(tmp_path, {"CAPTURE": "no.mcap", "TEST": "true"})
        assert done.returncode != 0
        assert "no.mcap" in done.stderr

    def run(self, folder, environment):
        """The step with the test, by the shell of a runner."""
        (step,) = [step for step in self.JOB["steps"] if step.get("name") == "Test the client"]
        path = os.pathsep.join([os.path.dirname(CENTRALCAP), os.environ["PATH"]])
        return subprocess.run(
            # With all that it has started.
            ["timeout", str(DEADLINE), "bash", "-e", "-c", step["run"]],
            cwd=folder,
            env=os.environ | self.JOB["env"] | environment | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
