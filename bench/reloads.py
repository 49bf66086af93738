#!/usr/bin/env python3
"""Shows that reloads disturb nobody: many revisions of many routes under load, one in ten of them bad.

A revision changes one route in a hundred, half of them fixed answers and half rewrites, and each carries the revision's
number. After SIGHUP every changed route has to answer with it before the next revision is written; after a bad one all
go on answering as before. Meanwhile requests come at a fixed rate, to changed and unchanged routes. One has failed if
its connection broke, if its status is not 200, or if it was answered by a revision older than one that was already
answering when it was sent. WebSockets on unchanged routes stay open through all of it.

Latencies are shown for a quiet time, for one in which another process reads the same files again and again, and for the
reloads: what the last has beyond the second is not only that the cores are busy.

  SHOAL=target/release/shoal bench/reloads.py [--count 1000] [--routes 5000] [--rate 500]
"""

import argparse
import asyncio
import contextlib
import http.client
import itertools
import multiprocessing
import random
import signal
import socket
import subprocess
import threading
import time

import node
import websocket

FILES = 10
# A revision takes the routes whose number leaves its own remainder; the last tenth of the remainders is left alone.
GROUPS = 100
LEFT_ALONE = 10
CONNECTIONS = 32
WEB_SOCKETS = 20
PATIENCE = 20
QUIET, BESIDE, RELOADS, OVER = range(4)


MAIN = """
include = ["routes/*.toml"]

[listen.main]
bind = "127.0.0.1:{plain}"
tls = "none"

[service.origin]
endpoints = ["http://127.0.0.1:{origin}"]

[service.echo]
endpoints = ["http://127.0.0.1:{echo}"]

[[route]]
match = "GET /echo/{{number}}"
service = "echo"

[admin]
bind = "127.0.0.1:{admin}"
metrics = "open"

[telemetry]
access_log = {{ to = "off" }}
max_series = 200000
"""


def match_of(route):
    return f"/shop/{route}/items/{{item}}"


def path_of(route):
    return f"/shop/{route}/items/7"


def text_of(route, revision, service="origin"):
    """Even routes answer by themselves, odd ones tell the origin what to say."""
    head = f'[[route]]\nid = "r{route}"\nmatch = "GET {match_of(route)}"\n'
    if route % 2 == 0:
        return head + f'respond = {{ status = 200, body = "{revision}" }}\n'
    return head + f'service = "{service}"\nrequest = {{ set = {{ x-revision = "{revision}" }} }}\n'


def changed(revision, routes):
    group = revision % (GROUPS - LEFT_ALONE)
    return range(group, routes, GROUPS)


def broken(text, kind):
    """A file with a mistake, of a different kind each time."""
    mistakes = [
        text + "\n[[route]\n",
        text + '\n[[route]]\nmatch = "/extra"\nservice = "nowhere"\n',
        text + '\n[[route]]\nmatch = "/extra"\nrespond = { status = 200 }\nretires = 3\n',
        text + '\n[limit.extra]\nrate = "fast"\n',
        text + f'\n[[route]]\nmatch = "GET {match_of(0)}"\nrespond = {{ status = 204 }}\n',
        # Only found when it is applied.
        text + '\n[listen.extra]\nbind = "203.0.113.1:9"\ntls = "none"\n',
    ]
    return mistakes[kind % len(mistakes)]


class Files:
    """The configuration: a main file, and routes in several that it includes."""

    def __init__(self, folder, routes, ports, origin, echo):
        self.folder, self.revisions = folder, [0] * routes
        self.texts = [text_of(route, 0) for route in range(routes)]
        self.main = folder / "shoal.toml"
        (folder / "routes").mkdir()
        plain, admin = ports
        self.main.write_text(MAIN.format(plain=plain, admin=admin, origin=origin, echo=echo))
        for file in range(FILES):
            self.write(file, self.text(file, self.texts))

    def text(self, file, texts):
        share = len(texts) // FILES
        return "\n".join(texts[file * share : (file + 1) * share])

    def write(self, file, text):
        """Whole or not at all, since the node may look at any moment."""
        path = self.folder / f"routes/{file}.toml"
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.rename(path)

    def good(self, revision):
        for route in changed(revision, len(self.texts)):
            self.revisions[route] = revision
            self.texts[route] = text_of(route, revision)
        for file in range(FILES):
            self.write(file, self.text(file, self.texts))

    def bad(self, revision):
        """As `good`, but with a mistake, which comes first so that no file of it may ever be seen without it."""
        texts = list(self.texts)
        for route in changed(revision, len(texts)):
            texts[route] = text_of(route, revision)
        self.write(FILES - 1, broken(self.text(FILES - 1, texts), revision // 10))
        for file in range(FILES - 1):
            self.write(file, self.text(file, texts))


async def origin(server):
    """Says what the header `x-revision` of a request says. Nothing but GET without a body comes here."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.find(b"\r\nx-revision: ") + 14
                said = head[at : head.find(b"\r\n", at)] if at >= 14 else b"none"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))

    async with await asyncio.start_server(serve, sock=server) as serving:
        await serving.serve_forever()


class Load:
    """Requests at a fixed rate over connections that stay open; latency counts from when a request was due."""

    def __init__(self, port, rate, routes, answering, phase):
        self.port, self.rate, self.routes = port, rate, routes
        # The revision that a route is known to answer with; written by whoever makes revisions.
        self.answering = answering
        self.phase = phase
        self.latencies = ([], [], [])
        self.failures = []

    async def run(self):
        begun = time.monotonic() + 0.2
        await asyncio.gather(*(self.connection(begun, number) for number in range(CONNECTIONS)))
        return self.latencies, self.failures

    async def connection(self, begun, number):
        chance, streams = random.Random(number), None
        for turn in itertools.count():
            due = begun + (turn * CONNECTIONS + number) / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            phase = self.phase.value
            if phase == OVER:
                return
            route = chance.randrange(self.routes)
            expected = self.answering[route]
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                status, said, last = await asyncio.wait_for(self.ask(*streams, path_of(route)), PATIENCE)
                if status != 200 or int(said) < expected:
                    self.failures.append(f"route {route}: {status} {said!r} instead of revision {expected}")
                if last:
                    streams[1].close()
                    streams = None
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as error:
                self.failures.append(f"route {route}: {error!r}")
                streams = None
            self.latencies[phase].append(time.monotonic() - due)

    async def ask(self, reader, writer, path):
        """The status, the body, and whether the connection is to end."""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{self.port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        said = await reader.readexactly(int(fields["content-length"]))
        return int(head.split()[1]), said, fields.get("connection") == "close"


def loading(port, rate, routes, answering, phase, results):
    results.put(asyncio.run(Load(port, rate, routes, answering, phase).run()))


class Asker:
    """Asks one route after the other on a connection of its own."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def revision(self, route):
        self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.connection.request("GET", path_of(route))
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.getheader("connection") == "close":
            self.connection.close()
            self.connection = None
        return int(said) if answer.status == 200 else answer.status


def until(true, seconds=PATIENCE):
    """Whether it came true, looked at every few milliseconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class Revisions:
    def __init__(self, server, files, asker, answering):
        self.server, self.files, self.asker, self.answering = server, files, asker, answering
        self.answered_after, self.wrong = [], []

    def good(self, revision):
        self.files.good(revision)
        begun = time.monotonic()
        self.server.signal(signal.SIGHUP)
        group = changed(revision, len(self.files.texts))
        if not until(lambda: self.asker.revision(group[-1]) == revision):
            self.wrong.append(f"revision {revision} never answered")
            return
        self.answered_after.append(time.monotonic() - begun)
        # A revision is made live in one step: where one route answers, all do.
        late = [route for route in group if self.asker.revision(route) != revision]
        if late:
            self.wrong.append(f"revision {revision}: routes {late} still answered as before")
        for route in group:
            self.answering[route] = revision

    def bad(self, revision):
        rejected = 'shoal_config_apply_total{result="rejected"}'
        before = self.server.metric(rejected)
        self.files.bad(revision)
        self.server.signal(signal.SIGHUP)
        if not until(lambda: self.server.metric(rejected) > before):
            self.wrong.append(f"bad revision {revision} was not rejected")
        group = changed(revision, len(self.files.texts))
        if any(self.asker.revision(route) != self.files.revisions[route] for route in group):
            self.wrong.append(f"bad revision {revision} unloaded what was good")


def milliseconds(latencies):
    return f"p50 {1e3 * node.quantile(latencies, 0.5):.2f} ms, p99 {1e3 * node.quantile(latencies, 0.99):.2f} ms, max {1e3 * max(latencies):.0f} ms"


def rounds(promises, arguments, files, server, port):
    answering = multiprocessing.RawArray("i", arguments.routes)
    phase, results = multiprocessing.RawValue("i", 0), multiprocessing.Queue()
    load = multiprocessing.Process(target=loading, args=(port, arguments.rate, arguments.routes, answering, phase, results), daemon=True)
    web_sockets = [websocket.WebSocket("127.0.0.1", port, f"/echo/{number}") for number in range(WEB_SOCKETS)]
    revisions = Revisions(server, files, Asker(port), answering)
    load.start()
    time.sleep(arguments.quiet)
    phase.value, until_then = BESIDE, time.monotonic() + arguments.quiet
    while time.monotonic() < until_then:
        subprocess.run([node.shoal_binary(), "check", files.main], stdout=subprocess.DEVNULL)
    phase.value = RELOADS
    begun = time.monotonic()
    for revision in range(1, arguments.count + 1):
        (revisions.bad if revision % 10 == 0 else revisions.good)(revision)
        if revision % 100 == 0:
            now, most = server.resident_mib()
            print(f"        {revision} revisions after {time.monotonic() - begun:.0f} s, {now:.0f} MiB resident, at most {most:.0f}", flush=True)
    took = time.monotonic() - begun
    phase.value = OVER
    (quiet, beside, during), failures = results.get()
    load.join()

    bad = arguments.count // 10
    each = f"{1e3 * node.quantile(revisions.answered_after, 0.5):.0f} ms after SIGHUP, p99 {1e3 * node.quantile(revisions.answered_after, 0.99):.0f} ms"
    line = f"{arguments.count - bad} good revisions of {arguments.routes} routes answered before the next, {each}; {bad} bad ones changed nothing; {took:.0f} s in all"
    promises.keep(not revisions.wrong, "; ".join([line, *revisions.wrong[:5]]))
    line = f"{len(failures)} requests failed, of {len(during)} at {arguments.rate}/s during reloads and {len(quiet) + len(beside)} before"
    promises.keep(not failures and len(during) > 0, "; ".join([line, *failures[:5]]))
    echoed = 0
    for web_socket in web_sockets:
        with contextlib.suppress(OSError):
            echoed += web_socket.echoes(b"still there?") and web_socket.close()
    promises.keep(echoed == WEB_SOCKETS, f"{echoed} of {WEB_SOCKETS} WebSockets echo after all of it")
    for name, latencies in (("quiet", quiet), ("a process reads the same files", beside), ("reloads", during)):
        print(f"        {name}: {milliseconds(latencies)}, {len(latencies)} requests")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="revisions, every tenth of them bad")
    parser.add_argument("--routes", type=int, default=5000)
    parser.add_argument("--rate", type=int, default=500, help="requests a second")
    parser.add_argument("--quiet", type=int, default=10, help="seconds of load without revisions, and again with another process that reads the files")
    arguments = parser.parse_args()
    promises = node.Promises()
    echo = websocket.Server(("127.0.0.1", 0), websocket.Handler)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    behind = multiprocessing.Process(target=lambda: asyncio.run(origin(listening)), daemon=True)
    behind.start()
    try:
        with node.folder() as folder:
            ports = node.ports(2)
            files = Files(folder, arguments.routes, ports, listening.getsockname()[1], echo.server_port)
            with node.running(files.main, ports[1]) as server:
                rounds(promises, arguments, files, server, ports[0])
    finally:
        behind.terminate()
        behind.join()
    promises.end()


if __name__ == "__main__":
    main()
