"""Processes pinned to a core, and what the kernel knows of them."""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

PROXY_CORE = int(os.environ.get("BENCH_PROXY_CORE", "0"))
LOAD_CORE = int(os.environ.get("BENCH_LOAD_CORE", "1"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(command, core, port, log):
    """Starts a server on a core, waits for its port, and ends it by its own id at the end."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def prepare():
        os.setsid()
        os.sched_setaffinity(0, {core})
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=prepare)
    try:
        wait_for(port, server, log)
        yield server.pid
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(2)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def wait_for(port, server, log, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if server.poll() is not None:
            tail = pathlib.Path(log).read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{server.args[0]} ended with {server.returncode}:\n{tail}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            time.sleep(0.2)
            return
        time.sleep(0.05)
    raise RuntimeError(f"{server.args[0]} does not listen on {port}")


def tree(pid):
    """The process and all that it started."""
    pids = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                pids += tree(int(child))
    return pids


def cpu_seconds(pid):
    """Time on a core of every thread of the process tree, from the scheduler's own nanoseconds."""
    nanoseconds = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{member}/task"):
                nanoseconds += int(pathlib.Path(f"/proc/{member}/task/{task}/schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def resident_kib(pid):
    kib = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    kib += int(line.split()[1])
    return kib


def core_seconds(core):
    """What a core has done since the machine started: busy, and taken away by the host."""
    tick = os.sysconf("SC_CLK_TCK")
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq) / tick, steal / tick
    raise RuntimeError(f"there is no core {core}")


class Watch:
    """What a proxy costs while something runs."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.cpu, self.core, self.begun = cpu_seconds(self.pid), core_seconds(PROXY_CORE), time.monotonic()
        self.load = core_seconds(LOAD_CORE)
        return self

    def __exit__(self, *_):
        elapsed = time.monotonic() - self.begun
        used = cpu_seconds(self.pid) - self.cpu
        busy, steal = (after - before for after, before in zip(core_seconds(PROXY_CORE), self.core))
        load = core_seconds(LOAD_CORE)[0] - self.load[0]
        self.facts = {
            "cpu_seconds": used,
            "core": round(used / elapsed, 3),
            "load_core": round(load / elapsed, 3),
            # Somebody else on the proxy's core, or the host taking it away: such a round says little.
            "foreign": round(max(0.0, busy - used) / elapsed, 3),
            "steal": round(steal / elapsed, 3),
            "rss_mib": round(resident_kib(self.pid) / 1024, 1),
        }


def facts(binaries):
    """The machine and what runs on it, as lines for the head of a table."""
    model = next(
        (line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown",
    )
    lines = [f"{os.cpu_count()} cores, {model}", f"Linux {os.uname().release}"]
    for command in binaries:
        with contextlib.suppress(OSError):
            printed = subprocess.run(command, capture_output=True, text=True)
            text = (printed.stdout + printed.stderr).strip()
            if text:
                lines.append(text.splitlines()[0].replace(command[0], pathlib.Path(command[0]).name).strip())
    return lines
