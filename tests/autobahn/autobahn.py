"""Autobahn's cases, driven by PyPI's kosoku, on `replay` as the server and on `record` as the client.

Both are run as they are. `replay` wants a key and a topic, which a relay puts into kosoku's requests, and
serves a feed in which nothing comes; `record` says nothing by itself. So whoever expects to get its
message back does not: the cases that need that are in deviations.txt, each of them, and nothing else may
fail. Where one of them does, the connection has to be kept: giving it up would be another fault. The
cases of limits and speed (9) and of compression (12, 13), which is not offered, are left out.

Give one of the two names, or both.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import kosoku
import kosoku.cases

CENTRALCAP = os.environ["CENTRALCAP"]
HERE = pathlib.Path(__file__).parent

LEFT_OUT = ["9.*", "12.*", "13.*"]

# At the same time: most of a case is waiting.
AT_ONCE = 24

# No case takes a tenth of it.
DEADLINE = 120


async def of_server():
    """What the cases say of `replay`."""
    capture = HERE.parent.parent / "fixtures" / "small.mcap"
    command = ["replay", capture, "--plain", "--skip", "1000000"]
    replay = await asyncio.create_subprocess_exec(
        CENTRALCAP, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    ready = json.loads(await replay.stdout.readline())
    host, port = ready["hostname"].split(":")
    headers = f"Authorization: synthetic-key\r\nTopic: {ready['topics'][0]}\r\n".encode()

    relayed = set()

    async def serve(reader, writer):
        relayed.add(asyncio.current_task())
        request = await reader.readuntil(b"\r\n")
        assert request.startswith(b"GET /")
        feed, to_feed = await asyncio.open_connection(host, port)
        to_feed.write(b"GET /streaming/api HTTP/1.1\r\n" + headers)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(carry(reader, to_feed), carry(feed, writer))
        to_feed.close()
        writer.close()

    relay = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = "127.0.0.1:{}".format(relay.sockets[0].getsockname()[1])
    try:
        return await verdicts(
            kosoku.run_fuzzingclient(address, None, LEFT_OUT, concurrency=AT_ONCE)
        )
    finally:
        relay.close()
        for task in relayed:
            task.cancel()
        await asyncio.gather(*relayed, return_exceptions=True)
        replay.send_signal(signal.SIGTERM)
        # Who breaks the protocol may have missed frames.
        assert await replay.wait() == 3


async def carry(reader, writer):
    """Passes all bytes on, and how the connection ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def of_client():
    """What the cases say of `record`."""
    cases = kosoku.cases.CASES
    count = sum(name.split(".")[0] not in {"9", "12", "13"} for name in cases)
    turns = asyncio.Semaphore(AT_ONCE // 2)
    with tempfile.TemporaryDirectory() as folder:
        async with kosoku.run_fuzzingserver(None, LEFT_OUT, port=0) as server:

            async def record(path, name):
                url = f"ws://{server.address}:{server.port}{path}"
                command = ["--quiet", "record", "--hostname", url, "--topic", "monitoring"]
                command += ["--once", "-o", os.path.join(folder, f"{name}.mcap")]
                environment = {**os.environ, "CENTRALCAP_KEY": "synthetic-key"}
                async with turns:
                    process = await asyncio.create_subprocess_exec(
                        CENTRALCAP, *command, env=environment, stderr=asyncio.subprocess.DEVNULL
                    )
                    await asyncio.wait_for(process.wait(), DEADLINE)

            runs = (
                record(f"/runCase?case={number}&agent=record", number)
                for number in range(1, count + 1)
            )
            await asyncio.gather(*runs)
            await record("/updateReports?agent=record", "end")
            return await verdicts(server.get_result())


async def verdicts(run):
    try:
        return await asyncio.wait_for(run, DEADLINE)
    except kosoku.FailureError as failure:
        return failure.results


def deviations():
    lines = (HERE / "deviations.txt").read_text().splitlines()
    return {line.split()[0] for line in lines if line and not line.startswith("#")}


def wants_its_message_back(case):
    events = [event for events in case.expected.values() for event in events]
    return any(event[0] == "message" for event in events)


def judge(name, results, seconds):
    known, failed = deviations(), {case.case_id for case in results if not case.passed}
    wrong = [f"{case} fails and is not known to" for case in sorted(failed - known)]
    wrong += [f"{case} is said to fail and does not" for case in sorted(known - failed)]
    for case in results:
        if case.case_id in failed and not wants_its_message_back(case):
            wrong.append(f"{case.case_id} fails for another reason: {case.result_close}")
        elif case.behavior_close.value == "FAILED" and case.remote_close_code is not None:
            # It was kosoku's to close, after it had waited in vain.
            wrong.append(f"{case.case_id} was closed with {case.remote_close_code}")
    passed = len(results) - len(failed)
    print(f"{name}: {passed} of {len(results)} cases passed in {seconds:.0f} s")
    for line in wrong:
        print(f"  {line}")
    return not wrong and len(results) > 200


async def main():
    sides = {"replay": of_server, "record": of_client}
    fine = True
    for name in sys.argv[1:] or sides:
        start = time.monotonic()
        results = await sides[name]()
        fine &= judge(name, results, time.monotonic() - start)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
