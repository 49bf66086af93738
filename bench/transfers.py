#!/usr/bin/env python3
"""Shows that the examples serve what people send, streamed and in little memory.

The node runs examples/one-node.toml, with other ports, in front of Python's own HTTP server. curl asks over HTTP/1.1,
HTTP/2 in the clear and TLS; WebSockets echo; events arrive one by one, each sent only after the one before was seen.
Then four uploads and four downloads run at once over all of these protocols, one writer and one reader slower than the
rest. Whoever sends hashes what it sends, whoever receives hashes what it gets, and nobody keeps any of it.

  SHOAL=target/release/shoal bench/transfers.py [--mib 1024] [--slow 40]
"""

import argparse
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import shutil
import ssl
import subprocess
import threading
import time

import node
import websocket

PIECE = 256 * 1024
EVENTS = 10
RESIDENT_MIB = 64

# Names, and how curl is told. The second port is the one with TLS.
PROTOCOLS = {
    "h1": ("http", ["--http1.1"], "1.1"),
    "h2c": ("http", ["--http2-prior-knowledge"], "2"),
    "h1 TLS": ("https", ["--http1.1"], "1.1"),
    "h2 TLS": ("https", ["--http2"], "2"),
}


def pieces(name, size):
    """A stream that no part of repeats at a fixed distance, from a name alone."""
    chance = random.Random(name)
    noise = memoryview(chance.randbytes(4 * PIECE))
    while size > 0:
        start = chance.randrange(3 * PIECE)
        piece = noise[start : start + min(PIECE, size)]
        size -= len(piece)
        yield piece


def digest():
    return hashlib.sha256()


class Origin(websocket.Handler):
    """Takes uploads and says what they were, gives downloads and remembers what they were, sends events."""

    sent = {}
    seen = [threading.Event() for _ in range(EVENTS)]

    def get(self):
        kind, _, name = self.path.strip("/").partition("/")
        {"downloads": self.download, "digests": self.digest, "events": self.events, "seen": self.see}.get(kind, self.hello)(name)

    def hello(self, _name):
        self.reply(json.dumps({"path": self.path, "host": self.headers["host"], "agent": self.headers["user-agent"]}))

    def digest(self, name):
        self.reply(Origin.sent.get(name, "unknown"))

    def download(self, name):
        size = int(name.rpartition("-")[2])
        hashed = digest()
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for piece in pieces(name, size):
            hashed.update(piece)
            self.wfile.write(piece)
        Origin.sent[name] = hashed.hexdigest()

    def events(self, _name):
        for seen in Origin.seen:
            seen.clear()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, seen in enumerate(Origin.seen):
            event = f"data: {number}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            # Whoever buffers makes both ends wait for each other.
            if not seen.wait(10):
                raise ConnectionError(f"event {number} was not seen")
        self.wfile.write(b"0\r\n\r\n")

    def see(self, name):
        Origin.seen[int(name)].set()
        self.reply("seen")

    def do_POST(self):
        self.do_PUT()

    def do_PUT(self):
        hashed, size = digest(), 0
        for piece in self.body():
            hashed.update(piece)
            size += len(piece)
        self.reply(json.dumps({"digest": hashed.hexdigest(), "size": size}))

    def body(self):
        if "content-length" in self.headers:
            yield from self.part(int(self.headers["content-length"]))
            return
        while (size := int(self.rfile.readline(), 16)) > 0:
            yield from self.part(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def part(self, size):
        while size > 0:
            piece = websocket.exactly(self.rfile, min(PIECE, size))
            size -= len(piece)
            yield piece

    def reply(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class Caller:
    """curl, and where it finds the node."""

    def __init__(self, plain, secure, authority):
        self.ports = {"http": plain, "https": secure}
        self.authority = authority

    def command(self, protocol, path, *more):
        scheme, options, _ = PROTOCOLS[protocol]
        url = f"{scheme}://localhost:{self.ports[scheme]}{path}"
        # curl gives each connection to a name its own look-up; IPv6 is not bound here.
        return ["curl", "-sS", "-4", "--cacert", str(self.authority), *options, *more, url]

    def ask(self, protocol, path, *more):
        """The status, the version of HTTP, and the body."""
        mark = "\n%{http_code} %{http_version}"
        done = subprocess.run(self.command(protocol, path, "-m", "20", "-w", mark, *more), capture_output=True, text=True)
        body, _, last = done.stdout.rpartition("\n")
        status, version = last.split()
        return int(status), version, body or done.stderr


def protocols(promises, caller):
    for name, (_, _, version) in PROTOCOLS.items():
        status, spoken, body = caller.ask(name, "/hello/world?a=1")
        kept = (status, spoken) == (200, version) and json.loads(body)["path"] == "/hello/world?a=1"
        promises.keep(kept, f"curl over {name}: {status}, HTTP/{spoken}")
    large = "0" * (1024 * 1024 + 1)
    # Not over HTTP/2: curl 7.88 takes the RST_STREAM(NO_ERROR) behind an early answer for a failure (RFC 9113, section 8.1).
    for name in ("h1", "h1 TLS"):
        statuses = []
        for path in ("/elsewhere", "/uploads/small"):
            asked = caller.command(name, path, "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-")
            statuses.append(subprocess.run(asked, input=large, capture_output=True, text=True).stdout)
        promises.keep(statuses == ["413", "200"], f"a byte over 1 MiB over {name}: {statuses[0]}, and {statuses[1]} where it is unlimited")


def web_sockets(promises, caller, authority):
    for port, tls in ((caller.ports["http"], None), (caller.ports["https"], ssl.create_default_context(cafile=authority))):
        sizes = (0, 1, 125, 126, 65_535, 65_536, 1_000_000)
        ws = websocket.WebSocket("localhost", port, "/chat", tls)
        echoed = sum(ws.echoes(os.urandom(size)) for size in sizes)
        closed = ws.close()
        promises.keep(echoed == len(sizes) and closed, f"a WebSocket {'over TLS' if tls else 'in the clear'}: {echoed} of {len(sizes)} echoes, up to 1 MB")


def events(promises, caller):
    for name in PROTOCOLS:
        seen = 0
        with subprocess.Popen(caller.command(name, "/events", "-N", "-m", "30"), stdout=subprocess.PIPE, text=True) as curl:
            for line in curl.stdout:
                if line.startswith("data:"):
                    # By another connection, since this one is busy with the stream.
                    other = http.client.HTTPConnection("localhost", caller.ports["http"], timeout=10)
                    other.request("GET", f"/seen/{int(line[5:])}")
                    seen += other.getresponse().status == 200
                    other.close()
        promises.keep(seen == EVENTS and curl.returncode == 0, f"events over {name}: {seen} of {EVENTS}, each sent after the one before was seen")


def paced(stream, rate):
    begun, passed = time.monotonic(), 0
    for piece in stream:
        yield piece
        passed += len(piece)
        ahead = rate and passed / rate - (time.monotonic() - begun)
        if ahead and ahead > 0:
            time.sleep(ahead)


def upload(caller, protocol, size, rate, more):
    name = f"{protocol.replace(' ', '-')}-{size}"
    hashed = digest()
    command = caller.command(protocol, f"/uploads/{name}", "-T", "-", *more)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
        try:
            for piece in paced(pieces(name, size), rate):
                hashed.update(piece)
                curl.stdin.write(piece)
            curl.stdin.close()
        except BrokenPipeError:
            return f"curl gave up: {curl.stdout.read()}"
        answer = curl.stdout.read()
    got = json.loads(answer) if answer.startswith(b"{") else {"answer": answer}
    return "" if got == {"digest": hashed.hexdigest(), "size": size} else f"{got} is not what was sent"


def download(caller, protocol, size, rate, more):
    name = f"{protocol.replace(' ', '-')}-{size}"
    hashed, taken = digest(), 0
    with subprocess.Popen(caller.command(protocol, f"/downloads/{name}", "-N", *more), stdout=subprocess.PIPE) as curl:
        for piece in paced(iter(lambda: curl.stdout.read(PIECE), b""), rate):
            hashed.update(piece)
            taken += len(piece)
    sent = caller.ask("h1", f"/digests/{name}")[2].strip()
    return "" if (taken, hashed.hexdigest()) == (size, sent) else f"{taken} bytes, curl {curl.returncode}, not what was sent"


def large(promises, caller, server, mib, slow):
    size, rate = mib * 1024 * 1024, slow * 1024 * 1024
    length = ["-H", f"Content-Length: {size}", "-H", "Transfer-Encoding:"]
    jobs = [
        ("upload, HTTP/1.1, length declared", upload, "h1", 0, length),
        ("upload, HTTP/2 in the clear", upload, "h2c", 0, []),
        ("upload, HTTP/1.1 over TLS, chunked", upload, "h1 TLS", 0, []),
        (f"upload, HTTP/2 over TLS, a writer of {slow} MiB/s", upload, "h2 TLS", rate, []),
        ("download, HTTP/1.1", download, "h1", 0, []),
        ("download, HTTP/2 in the clear", download, "h2c", 0, []),
        ("download, HTTP/1.1 over TLS", download, "h1 TLS", 0, []),
        (f"download, HTTP/2 over TLS, a reader of {slow} MiB/s", download, "h2 TLS", rate, []),
    ]
    before, begun = server.resident_mib()[1], time.monotonic()
    outcomes = {}

    def work(what, transfer, protocol, pace, more):
        wrong = transfer(caller, protocol, size, pace, more)
        outcomes[what] = (wrong, time.monotonic() - begun)

    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for what, *_ in jobs:
        wrong, seconds = outcomes.get(what, ("it broke off", 0))
        promises.keep(not wrong, f"{what}: {mib} MiB in {seconds:.0f} s, {wrong or 'equal digests'}")
    peak = server.resident_mib()[1]
    promises.keep(peak < RESIDENT_MIB, f"peak resident memory {peak:.1f} MiB, below {RESIDENT_MIB} ({before:.1f} before the eight transfers)")


def one_node(promises, folder, origin, mib, slow):
    plain, secure, admin = node.ports(3)
    text = (folder / "one-node.toml").read_text()
    for written, taken in (("8080", plain), ("8443", secure), ("9000", origin)):
        assert written in text, f"port {written} is not in the example"
        text = text.replace(written, str(taken))
    file = folder / "one-node.test.toml"
    file.write_text(f'{text}\n[admin]\nbind = "127.0.0.1:{admin}"\n')
    authority = folder / "certs/ca.pem"
    with node.running(file, admin) as server:
        caller = Caller(plain, secure, authority)
        protocols(promises, caller)
        web_sockets(promises, caller, authority)
        events(promises, caller)
        large(promises, caller, server, mib, slow)


def minimal(promises, folder, origin):
    """The ten lines: an answer, and a limit of ten a second."""
    port, admin = node.ports(2)
    text = (folder / "minimal.toml").read_text().replace("0.0.0.0:8080", f"127.0.0.1:{port}").replace("127.0.0.1:3000", f"127.0.0.1:{origin}")
    file = folder / "minimal.test.toml"
    file.write_text(f'{text}\n[admin]\nbind = "127.0.0.1:{admin}"\n')
    with node.running(file, admin):
        first = subprocess.run(["curl", "-sS", "-i", f"http://127.0.0.1:{port}/hello/world"], capture_output=True, text=True).stdout
        promises.keep(first.startswith("HTTP/1.1 200"), f"ten lines: the first curl is answered {first.partition(chr(10))[0].strip()}")
        time.sleep(1.1)
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        granted = 0
        while True:
            connection.request("GET", "/hello/world")
            answer = connection.getresponse()
            problem = answer.read()
            if answer.status != 200 or granted > 100:
                break
            granted += 1
        # A slow machine lets a token trickle in for every 100 ms that ten requests take.
        refilled = int((time.monotonic() - begun) * 10)
        fields = [answer.getheader(name) for name in ("retry-after", "ratelimit", "ratelimit-policy", "content-type")]
        kept = answer.status == 429 and 10 <= granted <= 10 + refilled and None not in fields and b'"request_id"' in problem
        promises.keep(kept, f"ten lines: request {granted + 1} is answered {answer.status}, Retry-After {fields[0]}, RateLimit {fields[1]}, RateLimit-Policy {fields[2]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="of each transfer")
    parser.add_argument("--slow", type=int, default=40, help="MiB a second of the slow writer and the slow reader")
    arguments = parser.parse_args()
    promises = node.Promises()
    with node.folder() as folder:
        examples = folder / "examples"
        shutil.copytree(node.EXAMPLES, examples, ignore=shutil.ignore_patterns("certs"))
        subprocess.run(["bash", str(examples / "certs.sh")], check=True, capture_output=True)
        # Bound here, so that it listens before anybody asks; served by another process, so that neither end's work holds up the other's.
        server = websocket.Server(("127.0.0.1", 0), Origin)
        origin = multiprocessing.Process(target=server.serve_forever, daemon=True)
        origin.start()
        try:
            minimal(promises, examples, server.server_port)
            one_node(promises, examples, server.server_port, arguments.mib, arguments.slow)
        finally:
            origin.terminate()
            origin.join()
    promises.end()


if __name__ == "__main__":
    main()
