"""What `record --metrics` says, read by Prometheus' own client library."""

import re
import urllib.request

from harness import (
    CUSTOMERS,
    MESSAGES,
    TOPICS,
    by_subscription,
    read_sealed,
    replay,
    running,
    until,
)
from prometheus_client.parser import text_string_to_metric_families

ALL = len(CUSTOMERS) * len(TOPICS)


def test_the_page_parses_and_counts_what_the_capture_holds(source, tmp_path):
    ca, folder, words = tmp_path / "ca.pem", tmp_path / "captures", tmp_path / "words"
    options = ["--wait-clients", ALL, "--accounts", source.accounts, "--ca-out", ca]
    with replay(source.path, *options) as feed, open(words, "w") as stderr:
        command = ["record", "--hostname", feed.hostname, "--ca", ca, "--input", source.accounts]
        with running(*command, "-o", folder, "--metrics", "0", stderr=stderr) as recorder:
            said = until(lambda: re.search(r"http://\S+/metrics", words.read_text()), "address")

            def page():
                with urllib.request.urlopen(said[0], timeout=10) as answer:
                    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                    text = answer.read().decode()
                families = {family.name: family for family in text_string_to_metric_families(text)}
                return families, text

            def frames(families):
                samples = families["centralcap_record_frames"].samples
                return {sample.labels["subscription"]: sample.value for sample in samples}

            until(lambda: sum(frames(page()[0]).values()) == MESSAGES, "all frames")
            families, text = page()
            recorder.terminate()
            assert recorder.wait(30) in (0, 3)
    [sealed] = folder.glob("*.mcap")
    kept = by_subscription(read_sealed(sealed))
    assert frames(families) == {name: len(data) for name, data in kept.items()}
    sizes = {
        sample.labels["subscription"]: sample.value
        for sample in families["centralcap_record_frame_bytes"].samples
    }
    assert sizes == {name: sum(map(len, data)) for name, data in kept.items()}
    for name, family in families.items():
        assert family.documentation, name
        assert family.type in ("counter", "gauge"), name
    assert "synthetic-key" not in text
