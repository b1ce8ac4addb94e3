"""One made-up capture for all tests: two customers, all topics, all payloads."""

import json
from typing import NamedTuple

import pytest
from harness import CUSTOMERS, MESSAGES, TOPICS, Frame, centralcap, key_of, read_sealed, replay


class Source(NamedTuple):
    """A capture, what is in it, and the accounts that go with it."""

    path: str
    accounts: str
    frames: list[Frame]


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    path, accounts = folder / "source.mcap", folder / "accounts.json"
    centralcap("synth", "--customers", len(CUSTOMERS), "--messages", MESSAGES, "-o", path)
    customers = {
        f"{customer}-{topic}": {
            "username": f"{customer}@example.com",
            "wsskey": key_of(customer),
            "topic": topic,
        }
        for customer in CUSTOMERS
        for topic in TOPICS
    }
    accounts.write_text(json.dumps({"customers": customers}, indent=2))
    frames = read_sealed(path, decode=True)
    assert len(frames) == MESSAGES
    assert {frame.subscription for frame in frames} == set(customers)
    return Source(path, accounts, frames)


@pytest.fixture(scope="session")
def feed(source, tmp_path_factory):
    """The capture as a live feed over TLS, for as many clients as there are."""
    ca = tmp_path_factory.mktemp("feed") / "ca.pem"
    with replay(source.path, "--accounts", source.accounts, "--ca-out", ca) as feed:
        yield feed
