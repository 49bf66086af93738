#!/usr/bin/env python3
"""Shows that SIGTERM costs nobody an answer.

Two nodes serve the same file. Callers keep the first one busy over HTTP/1.1 and HTTP/2; some come anew for every
request; some requests take longer than the node still accepts, and one of them sends its body slowly. Then the first
node is told to leave. A caller that reads `Connection: close` or GOAWAY, or finds the port closed, goes to the second
node. A request has failed if it was sent and not answered with 200 and its whole body; what GOAWAY says was not begun
may be asked again elsewhere.

  SHOAL=target/release/shoal bench/drain.py [--rounds 3]
"""

import argparse
import asyncio
import collections
import contextlib
import multiprocessing
import signal
import socket
import time
import urllib.error

import h2
import node

WAIT, BOUND = 2, 5
H1_CALLERS, H2_CALLERS, STREAMS, NEWCOMERS = 40, 8, 8, 10
BODY = b"x" * 1024
# Longer than it is still accepting, shorter than everything together.
LONG = 3.5
# So long after SIGTERM at most does a node know that it is to leave.
NOTICE = 0.5

FILE = """
[node]
drain = {{ wait = "{wait}s", bound = "{bound}s" }}

[listen.main]
bind = "127.0.0.1:{plain}"
tls = "none"

[service.origin]
endpoints = ["http://127.0.0.1:{origin}"]

[[route]]
match = "/**"
service = "origin"

[admin]
bind = "127.0.0.1:{admin}"

[telemetry]
access_log = {{ to = "off" }}
"""


async def origin(server):
    """Answers `/SECONDS` after so long, once it has read the body."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                size = head.partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(size or 0))
                await asyncio.sleep(float(head.split()[1][1:]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY))

    async with await asyncio.start_server(serve, sock=server) as serving:
        await serving.serve_forever()


class Callers:
    """All who ask, and what became of it. A caller is at the first node until it learns that this one leaves."""

    def __init__(self, first, second):
        self.ports = (first, second)
        self.over = False
        self.leaving_at = None
        self.answered, self.failures, self.moved = collections.Counter(), [], collections.Counter()
        self.again, self.accepted_while_leaving = 0, 0

    async def all(self):
        h1 = [self.h1() for _ in range(H1_CALLERS)]
        h2 = [self.h2() for _ in range(H2_CALLERS)]
        await asyncio.gather(*h1, *h2, *(self.newcomer() for _ in range(NEWCOMERS)))

    def failed(self, who, error):
        since = f" {time.monotonic() - self.leaving_at:.3f} s after SIGTERM" if self.leaving_at else ""
        self.failures.append(f"{who}{since}: {error!r}")

    @contextlib.contextmanager
    def asking(self, who, port):
        """A request that has to be answered."""
        try:
            yield
            self.answered[who, port] += 1
        except h2.Unprocessed:
            # Whoever asks in a loop asks again, elsewhere.
            self.again += 1
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.failed(who, error)

    async def connect(self, at):
        """A connection to the first node, or to the second if the first accepts no more; and which of them."""
        try:
            return await asyncio.open_connection("127.0.0.1", self.ports[at]), at
        except ConnectionRefusedError:
            if at == 1:
                raise
            return await asyncio.open_connection("127.0.0.1", self.ports[1]), 1

    async def h1(self):
        at, streams = 0, None
        while not self.over:
            if streams is None:
                streams, at = await self.connect(at)
            last = True
            with self.asking("HTTP/1.1", at):
                last = await exchange(*streams, "/0.02")
            if last:
                streams[1].close()
                streams = None
                self.moved["HTTP/1.1"] += at == 0
                at = 1

    async def h2(self):
        """A connection with several requests at once, and the one that follows it."""
        at = 0
        while not self.over:
            connection = await h2.Connection.open("127.0.0.1", self.ports[at])
            await asyncio.gather(*(self.h2_stream(connection, at) for _ in range(STREAMS)))
            connection.writer.close()
            self.moved["HTTP/2"] += at == 0 and not self.over
            at = 1

    async def h2_stream(self, connection, at):
        while not self.over and not connection.leaving:
            with self.asking("HTTP/2", at):
                whole(await connection.get("/0.02"))

    async def newcomer(self):
        """A new connection for every request, for as long as the first node accepts any."""
        at = 0
        while not self.over:
            leaving = self.leaving_at and time.monotonic() > self.leaving_at + NOTICE
            streams, at = await self.connect(at)
            with self.asking("new connections", at):
                last = await exchange(*streams, "/0.005")
                if leaving and at == 0:
                    self.accepted_while_leaving += 1
                    if not last:
                        raise ValueError("a node that leaves did not say so")
            streams[1].close()

    async def long_h1(self):
        streams, at = await self.connect(0)
        with self.asking("long requests", at):
            await exchange(*streams, f"/{LONG}")
        streams[1].close()

    async def long_h2(self):
        connection = await h2.Connection.open("127.0.0.1", self.ports[0])
        with self.asking("long requests", 0):
            whole(await connection.get(f"/{LONG}"))
        connection.writer.close()

    async def slow_body(self):
        streams, at = await self.connect(0)
        with self.asking("long requests", at):
            pieces = 20
            streams[1].write(f"POST /0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {pieces * 1000}\r\n\r\n".encode())
            for _ in range(pieces):
                streams[1].write(bytes(1000))
                await asyncio.sleep(LONG / pieces)
            await answer(streams[0])
        streams[1].close()


async def exchange(reader, writer, path):
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return await answer(reader)


async def answer(reader):
    """Whether the connection is to end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    body = await reader.readexactly(size)
    if head.split()[1] != "200" or body != BODY:
        raise ValueError(head)
    return "connection: close\r\n" in head


def whole(size):
    if size != len(BODY):
        raise ValueError(f"{size} bytes of body")


def readiness(server):
    try:
        server.ask("/readyz")
        return 200
    except urllib.error.HTTPError as error:
        return error.code


async def leave(first, callers):
    """Lets the load run, tells the first node to leave, and returns what it said of its readiness and how long it took."""
    running = asyncio.create_task(callers.all())
    await asyncio.sleep(1)
    # Begun just before, so that they are in flight at every step.
    before = [asyncio.create_task(work) for work in (callers.long_h1(), callers.long_h2(), callers.slow_body())]
    await asyncio.sleep(0.1)
    callers.leaving_at = time.monotonic()
    first.signal(signal.SIGTERM)
    await asyncio.sleep(WAIT / 2)
    ready = await asyncio.to_thread(readiness, first)
    # And begun while it leaves.
    during = [asyncio.create_task(work) for work in (callers.long_h1(), callers.slow_body())]
    code = await asyncio.to_thread(first.process.wait, WAIT + BOUND + 10)
    took = time.monotonic() - callers.leaving_at
    await asyncio.sleep(0.5)
    callers.over = True
    await asyncio.gather(running, *before, *during)
    return ready, code, took


def one(promises, number, origin_port):
    with node.folder() as folder, contextlib.ExitStack() as nodes:
        servers, plains = [], []
        for name in ("first", "second"):
            plain, admin = node.ports(2)
            file = folder / f"{name}.toml"
            file.write_text(FILE.format(plain=plain, admin=admin, origin=origin_port, wait=WAIT, bound=BOUND))
            servers.append(nodes.enter_context(node.running(file, admin)))
            plains.append(plain)
        callers = Callers(*plains)
        ready, code, took = asyncio.run(leave(servers[0], callers))
        said = servers[0].told.read_text().strip().splitlines()[-1]
    total = lambda at: sum(number for (_, where), number in callers.answered.items() if where == at)
    line = f"round {number}: {len(callers.failures)} failed requests, {total(0)} answered by the first node and {total(1)} by the second"
    promises.keep(not callers.failures and total(1) > 0, "; ".join([line, *callers.failures[:5]]))
    moved = f"{callers.moved['HTTP/1.1']} of {H1_CALLERS} callers moved by Connection: close, {callers.moved['HTTP/2']} of {H2_CALLERS} by GOAWAY"
    kept = callers.moved["HTTP/1.1"] == H1_CALLERS and callers.moved["HTTP/2"] == H2_CALLERS
    promises.keep(kept, f"round {number}: {moved}; {callers.again} requests were said not to have begun")
    promises.keep(callers.accepted_while_leaving > 0, f"round {number}: {callers.accepted_while_leaving} new connections were accepted and answered within `wait`")
    long = callers.answered["long requests", 0]
    promises.keep(long == 5, f"round {number}: {long} of 5 long requests, begun before and after SIGTERM, were answered by the first node")
    promises.keep(ready == 503, f"round {number}: /readyz said {ready} while it left")
    kept = code == 0 and WAIT <= took <= WAIT + BOUND and said == "left"
    promises.keep(kept, f"round {number}: exit {code} after {took:.1f} s of at most {WAIT + BOUND}, saying {said!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    promises = node.Promises()
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    behind = multiprocessing.Process(target=lambda: asyncio.run(origin(listening)), daemon=True)
    behind.start()
    try:
        for number in range(1, arguments.rounds + 1):
            one(promises, number, listening.getsockname()[1])
    finally:
        behind.terminate()
        behind.join()
    promises.end()


if __name__ == "__main__":
    main()
