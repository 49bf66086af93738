"""Who asks: wrk in a closed loop, h2load for HTTP/2, and the project's own generator for everything else."""

import contextlib
import json
import os
import re
import subprocess

from machine import LOAD_CORE
from peers import HERE, HOME

LOAD = str(HOME / "bin/load")


def pinned(command):
    return ["taskset", "-c", str(LOAD_CORE), *command]


def output(command, environment=None):
    done = subprocess.run(pinned(command), capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def closed(scenario, port, seconds, path, connections):
    """As many requests as the proxy can answer; the proxy's core should be saturated."""
    if scenario.h2:
        return h2load(port, seconds, path)
    environment = {
        "BENCH_PATH": scenario.path if path == "/" else path,
        "BENCH_PATHS": str(scenario.routes or 1),
        "BENCH_KEYS": str(scenario.keys()),
    }
    if "x-tenant" in scenario.headers():
        environment["BENCH_TENANT"] = scenario.headers()["x-tenant"]
    scheme = "https" if scenario.tls else "http"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "requests.lua")]
    printed = output([*command, f"{scheme}://127.0.0.1:{port}/"], environment)
    return json.loads(re.search(r"^RESULT (.*)$", printed, re.MULTILINE).group(1))


def h2load(port, seconds, path, connections=8, streams=32):
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"http://127.0.0.1:{port}{path}"]
    printed = output(command)
    codes = list(map(int, re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", printed).groups()))
    failed, errored = map(int, re.search(r"(\d+) failed, (\d+) errored", printed).groups())
    return {"done": sum(codes), "seconds": float(seconds), "errors": failed + errored, "not_2xx": sum(codes[1:])}


def ours(mode, scenario, port, *options):
    return json.loads(output(command(mode, scenario, port, *options)).splitlines()[-1])


def command(mode, scenario, port, *options):
    command = [LOAD, mode, "--to", f"127.0.0.1:{port}", "--path", scenario.path, "--paths", str(scenario.routes or 1)]
    command += ["--keys", str(scenario.keys()), "--tls", "yes" if scenario.tls else "no"]
    for name, value in scenario.headers().items():
        command += ["--header", f"{name}: {value}"]
    return [*command, *map(str, options)]


@contextlib.contextmanager
def held(mode, scenario, port, *options):
    """A load that has made its connections and asked once on each. Yields what lets it go on and returns its result."""
    asked = pinned(command(mode, scenario, port, *options))
    with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        ready = load.stdout.readline()
        if not ready:
            raise RuntimeError(f"{' '.join(asked)}: no answer on some connection")

        def go_on():
            load.stdin.write("\n")
            load.stdin.close()
            return json.loads(load.stdout.readline())

        yield go_on


def handshakes(scenario, port, seconds):
    return ours("handshakes", scenario, port, "--seconds", seconds, "--connections", 8)


def count(scenario, port, requests):
    return ours("count", scenario, port, "--requests", requests, "--connections", 1)
