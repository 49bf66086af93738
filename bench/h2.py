"""An HTTP/2 caller with nothing but sockets (RFC 9113): GET requests in the clear by prior knowledge, and every promise of GOAWAY.

It reads of an answer only whether its status is 200 and how much body it has; that needs no state of header compression,
because the status comes first and 200 is one byte of the static table (RFC 7541, appendix A).
"""

import asyncio
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
REFUSED_STREAM = 7
WINDOW = 2**30
STATUS_200 = 0x88


class Unprocessed(Exception):
    """The other end says that it has not begun with the request: sending it elsewhere is safe."""


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


class Connection:
    @classmethod
    async def open(cls, host, port):
        self = cls()
        self.authority = f"{host}:{port}".encode()
        self.reader, self.writer = await asyncio.open_connection(host, port)
        settings = struct.pack("!HIHI", 2, 0, 4, WINDOW)
        self.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", WINDOW)))
        self.stream, self.leaving, self.open = 1, False, {}
        self.reading = asyncio.create_task(self.read())
        return self

    async def get(self, path):
        """The number of bytes of an answer with status 200."""
        assert not self.leaving, "no stream is opened behind GOAWAY"
        stream, self.stream = self.stream, self.stream + 2
        literal = lambda index, value: bytes([index, len(value)]) + value
        block = bytes([0x82, 0x86]) + literal(0x04, path.encode()) + literal(0x01, self.authority)
        answer = self.open[stream] = [False, 0, asyncio.get_running_loop().create_future()]
        self.writer.write(frame(HEADERS, END_STREAM | END_HEADERS, stream, block))
        return await answer[2]

    async def read(self):
        why = ConnectionError("the connection ended before the answer")
        try:
            while True:
                head = await self.reader.readexactly(9)
                size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream = int.from_bytes(head[5:], "big") & 0x7FFF_FFFF
                self.take(kind, flags, stream, await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError) as error:
            why.__cause__ = error
        for stream in list(self.open):
            self.end(stream, why)
        self.leaving = True
        self.writer.close()

    def take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.writer.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.leaving = True
            last = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
            for later in [stream for stream in self.open if stream > last]:
                self.end(later, Unprocessed())
        elif kind == RST_STREAM:
            code = int.from_bytes(payload, "big")
            self.end(stream, Unprocessed() if code == REFUSED_STREAM else ConnectionError(f"the stream was reset with {code}"))
        elif kind in (HEADERS, DATA) and stream in self.open:
            answer = self.open[stream]
            if kind == DATA:
                answer[1] += len(payload)
            elif not answer[0]:
                answer[0] = payload[0] == STATUS_200
            if flags & END_STREAM:
                self.end(stream, None if answer[0] else ValueError("the status is not 200"))

    def end(self, stream, error):
        _, size, future = self.open.pop(stream, (None, 0, None))
        if future is None or future.done():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(size)
