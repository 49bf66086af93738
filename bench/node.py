"""A node on loopback in a folder of its own, for the scripts that show what shoal promises, and where they note what they saw."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from peers import HERE, shoal_binary

EXAMPLES = HERE.parent / "examples"


class Promises:
    """One line for each promise. The script fails at its end if one was broken, and shows all of them first."""

    def __init__(self):
        self.broken = 0
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start", flush=True)

    def keep(self, kept, line):
        self.broken += not kept
        print(f"{'kept  ' if kept else 'BROKEN'}  {line}", flush=True)

    def end(self):
        sys.exit(1 if self.broken else 0)


@contextlib.contextmanager
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="shoal-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Node:
    """A process that serves a file. What it says is kept beside the file."""

    def __init__(self, file, admin):
        self.admin = admin
        self.told = file.with_suffix(".stderr")
        with open(self.told, "wb") as told:
            command = [shoal_binary(), "run", "-c", file]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=told)
        self.pid = self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, series):
        """The value of a series, as `name{label="value"}`."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.ask("/metrics"), re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def resident_mib(self):
        """Memory that is resident now, and the most that ever was."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return [int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024 for name in ("VmRSS", "VmHWM")]

    def wait_until_ready(self, seconds=20):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"shoal ended with {self.process.returncode}:\n{self.told.read_text()}")
            with contextlib.suppress(OSError):
                self.ask("/readyz")
                return
            time.sleep(0.02)
        raise RuntimeError(f"shoal is not ready:\n{self.told.read_text()}")


@contextlib.contextmanager
def running(file, admin):
    """A node whose admin listener is on that port of loopback. It is ended without the wait that load balancers need."""
    node = Node(file, admin)
    try:
        node.wait_until_ready()
        yield node
    finally:
        if node.process.poll() is None:
            node.signal(signal.SIGINT)
            try:
                node.process.wait(5)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()


def ports(number):
    """Free ports, all different."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
