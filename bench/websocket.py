"""WebSocket with nothing but sockets: a server that echoes, and a caller (RFC 6455). Messages of one frame only."""

import base64
import hashlib
import http.server
import os
import socket
import struct

TEXT, CLOSE = 1, 8


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def write(stream, kind, payload, masked):
    """Callers mask what they send, servers do not."""
    size = len(payload)
    flag = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | kind, flag | size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | kind, flag | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, flag | 127, size)
    if masked:
        mask = os.urandom(4)
        head, payload = head + mask, with_mask(payload, mask)
    stream.write(head + payload)
    stream.flush()


def read(stream):
    """The kind of the next frame and what it carries."""
    first, second = exactly(stream, 2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(exactly(stream, 2 if size == 126 else 8), "big")
    mask = exactly(stream, 4) if second & 0x80 else bytes(4)
    return first & 0x0F, with_mask(exactly(stream, size), mask)


def with_mask(payload, mask):
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


def exactly(stream, size):
    taken = stream.read(size)
    if len(taken) < size:
        raise ConnectionError("the other end is gone")
    return taken


class Handler(http.server.BaseHTTPRequestHandler):
    """Echoes on every path. Subclasses answer what is not an upgrade."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("upgrade", "").lower() == "websocket":
            self.echo()
        else:
            self.get()

    def echo(self):
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_of(self.headers["sec-websocket-key"]))
        self.end_headers()
        self.close_connection = True
        kind = TEXT
        while kind != CLOSE:
            kind, payload = read(self.rfile)
            write(self.wfile, kind, payload, masked=False)

    def get(self):
        self.send_error(404)


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection; callers that leave in the middle are none of its business."""

    request_queue_size = 256

    def handle_error(self, *_):
        pass


class WebSocket:
    """A caller. `tls` is a context of `ssl` where the connection is encrypted."""

    def __init__(self, host, port, path, tls=None):
        self.socket = socket.create_connection((host, port), 10)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.stream = self.socket.makefile("rwb")
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        )
        self.stream.write(head.encode())
        self.stream.flush()
        status = self.stream.readline().decode().strip()
        fields = {}
        while (line := self.stream.readline().decode().strip()) != "":
            name, value = line.split(":", 1)
            fields[name.lower()] = value.strip()
        if " 101 " not in status + " " or fields.get("sec-websocket-accept") != accept_of(key):
            raise ConnectionError(f"no upgrade: {status}")

    def echoes(self, payload):
        write(self.stream, TEXT, payload, masked=True)
        return read(self.stream) == (TEXT, payload)

    def close(self):
        """Whether the other end says goodbye as well."""
        write(self.stream, CLOSE, struct.pack("!H", 1000), masked=True)
        said = read(self.stream)[0] == CLOSE
        self.stream.close()
        self.socket.close()
        return said
