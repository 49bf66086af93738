"""Endpoints that fail on order, each a process of its own, and callers at a fixed rate who notice it or not."""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import time

CONNECTIONS, BODY, PATIENCE = 50, b"x" * 1024, 10


class Endpoint:
    """A process that answers every request with 200, or with 500 while it is sick."""

    def __init__(self, port, host="127.0.0.1"):
        self.host, self.port = host, port
        self.sick, self.asked = multiprocessing.Value("b", 0), multiprocessing.Value("L", 0)
        self.start()

    def start(self):
        listener = socket.create_server((self.host, self.port), backlog=1024)
        self.process = multiprocessing.Process(target=self.serve, args=(listener,), daemon=True)
        self.process.start()
        listener.close()

    def serve(self, listener):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self.answer(listener))

    async def answer(self, listener):
        well = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
        sick = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"

        async def converse(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    self.asked.value += 1
                    writer.write(sick if self.sick.value else well)

        async with await asyncio.start_server(converse, sock=listener) as server:
            await server.serve_forever()

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def fall_sick(self):
        self.sick.value = 1

    def heal(self):
        self.sick.value = 0
        if not self.process.is_alive():
            self.start()
        os.kill(self.process.pid, signal.SIGCONT)


async def caller(port, rate, begun, until, number, failures, latencies):
    request = b"GET /item HTTP/1.1\r\nhost: shop.test\r\n\r\n"
    streams = None
    for turn in itertools.count():
        due = begun + (turn * CONNECTIONS + number) / rate
        if due > until:
            return
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", port)
            reader, writer = streams
            writer.write(request)
            answer = reader.readuntil(b"\r\n\r\n")
            head = await asyncio.wait_for(answer, PATIENCE)
            lines = head.decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            body = await asyncio.wait_for(reader.readexactly(length), PATIENCE)
            if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
                failures.append((sent, time.monotonic(), f"{lines[0]} {body[:90]!r}"))
            if "connection: close" in lines:
                writer.close()
                streams = None
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, StopIteration) as error:
            failures.append((sent, time.monotonic(), repr(error)))
            streams = None
        latencies.append((due, time.monotonic() - due))


def load(port, rate, begun, until, said):
    async def everybody():
        failures, latencies = [], []
        callers = (caller(port, rate, begun, until, number, failures, latencies) for number in range(CONNECTIONS))
        await asyncio.gather(*callers)
        said.send((failures, latencies))

    asyncio.run(everybody())


@contextlib.contextmanager
def asking(port, rate, begun, seconds):
    """Callers in a process of their own. Yields what waits for them and returns failures and latencies."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=load, args=(port, rate, begun, begun + seconds, theirs), daemon=True)
    process.start()

    def over():
        said = ours.recv()
        process.join()
        return said

    try:
        yield over
    finally:
        if process.is_alive():
            process.terminate()
