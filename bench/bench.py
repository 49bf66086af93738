#!/usr/bin/env python3
"""Measures shoal beside nginx, HAProxy and Envoy on one machine. README.md says how and why.

  bench.py check  [SCENARIO...]   does every peer do what the scenario asks for?
  bench.py run    [SCENARIO...]   interleaved rounds; appends to $BENCH_HOME/results/rounds.jsonl
  bench.py idle                   memory of idle connections; appends to idle.jsonl
  bench.py routes                 instructions a request with 10 and with 10,000 routes; appends to routes.jsonl
  bench.py report                 tables out of all three, on standard output
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import time

import loads
import machine
import peers
import report
from scenarios import SCENARIOS, TENANT

RESULTS = peers.HOME / "results"


def record(file, facts):
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / file, "a") as lines:
        lines.write(json.dumps(facts) + "\n")


def with_origin(work):
    port = machine.free_port()
    with machine.process(peers.origin(port), machine.LOAD_CORE, port, peers.HOME / "run/origin.log"):
        work(port)


def running(peer, scenario, origin, metrics=None):
    """The peer, listening for the scenario. Yields its process and its port."""
    port = machine.free_port()
    command = peers.PEERS[peer](scenario, port, origin, metrics or machine.free_port())
    # HAProxy writes its access log to standard output, so this is where all of them find it.
    log = peers.log_of(peer) if scenario.watched and peer == "haproxy" else peers.HOME / "run" / f"{peer}.log"
    return machine.process(command, machine.PROXY_CORE, port, log), port


def curl(scenario, port, path, headers=()):
    scheme = "https" if scenario.tls else "http"
    command = ["curl", "-sk", "-m5", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{http_version}"]
    command += ["--http2-prior-knowledge"] if scenario.h2 else ["--http1.1"]
    command += ["--resolve", f"bench.local:{port}:127.0.0.1"]
    for header in headers:
        command += ["-H", header]
    return subprocess.run([*command, f"{scheme}://bench.local:{port}{path}"], capture_output=True, text=True).stdout


def expectations(scenario):
    """Path, headers and the answer that each peer must give."""
    version = "2" if scenario.h2 else "1.1"
    if scenario.routes:
        tenant, key = f"x-tenant: {TENANT}", "x-api-key: key-1"
        yield f"{peers.route(37)}item", (tenant, key), f"200 1024 {version}"
        yield f"{peers.route(37)}item", (key,), "404"
        yield "/elsewhere", (tenant, key), "404"
    elif scenario.name == "s8":
        yield "/64k", (), f"200 65536 {version}"
        yield "/1m", (), f"200 1048576 {version}"
    else:
        yield "/", ("x-api-key: key-1",), f"200 1024 {version}"


def check(arguments):
    wrong = []

    def work(origin):
        for scenario in arguments.scenarios:
            for peer in arguments.peers:
                metrics = machine.free_port()
                server, port = running(peer, scenario, origin, metrics)
                with server:
                    for path, headers, expected in expectations(scenario):
                        answered = curl(scenario, port, path, headers)
                        if not answered.startswith(expected):
                            wrong.append(f"{scenario.name} {peer} {path}: {answered}, not {expected}")
                    if scenario.watched:
                        wrong.extend(watched(scenario, peer, metrics))
                print(f"{scenario.name:4} {peer}", flush=True)

    with_origin(work)
    if wrong:
        sys.exit("\n".join(wrong))


def watched(scenario, peer, metrics):
    """A log that stays empty, or metrics that do not answer, would make a peer look cheap."""
    path = "/stats/prometheus" if peer == "envoy" else "/metrics"
    plain = dataclasses.replace(scenario, tls=False)
    # By the name that it is bound to: shoal's admin answers to no other.
    answered = curl(plain, metrics, path, (f"Host: 127.0.0.1:{metrics}",))
    if not answered.startswith("200"):
        yield f"{scenario.name} {peer}: metrics answer {answered}"
    # nginx flushes its log once a second, Envoy every ten seconds.
    until = time.monotonic() + 12
    while time.monotonic() < until:
        log = peers.log_of(peer)
        if log.exists() and log.stat().st_size > 0:
            return
        time.sleep(0.2)
    yield f"{scenario.name} {peer}: nothing in its access log"


def run(arguments):
    for number in range(1, arguments.rounds + 1):
        for scenario in arguments.scenarios:
            # Whoever comes second may find a warmer machine, so the order turns round.
            order = arguments.peers if number % 2 else arguments.peers[::-1]
            with_origin(lambda origin: [measure(arguments, number, scenario, peer, origin) for peer in order])


def measure(arguments, number, scenario, peer, origin):
    peers.log_of(peer).unlink(missing_ok=True)
    server, port = running(peer, scenario, origin)
    with server as pid:
        for path, connections in scenario.paths:
            loads.closed(scenario, port, 1, path, connections)
            phase = "closed loop" if path == "/" else f"closed loop {path}"
            one(pid, number, scenario, peer, phase, lambda: loads.closed(scenario, port, arguments.seconds, path, connections))
        if scenario.rate:
            phase = f"{arguments.rate:,}/s"
            options = ("--rate", arguments.rate, "--seconds", arguments.seconds, "--connections", 64)
            with loads.held("rate", scenario, port, *options) as go_on:
                one(pid, number, scenario, peer, phase, go_on)
        if scenario.handshakes:
            one(pid, number, scenario, peer, "full handshakes", lambda: loads.handshakes(scenario, port, arguments.seconds))


def one(pid, number, scenario, peer, phase, load):
    with machine.Watch(pid) as watch:
        result = load()
    facts = {"round": number, "scenario": scenario.name, "phase": phase, "peer": peer, **result, **watch.facts}
    facts["cpu_us"] = round(1e6 * facts.pop("cpu_seconds") / max(1, result["done"]), 2)
    record("rounds.jsonl", facts)
    shown = ("cpu_us", "core", "load_core", "foreign", "errors", "not_2xx", "p50", "p99", "rss_mib")
    line = " ".join(f"{name}={facts[name]}" for name in shown if name in facts)
    print(f"{number} {scenario.name:4} {phase:17} {peer:8} {result['done'] / result['seconds']:9.0f}/s {line}", flush=True)


def idle(arguments):
    def work(origin):
        for kind, scenario, connections in (("plain", SCENARIOS["s1"], 9_900), ("TLS", SCENARIOS["s2"], 2_000)):
            for peer in arguments.peers:
                server, port = running(peer, scenario, origin)
                with server as pid:
                    hold(kind, scenario, connections, peer, pid, port)

    with_origin(work)


def hold(kind, scenario, connections, peer, pid, port):
    # What a proxy takes once, whatever the number of connections, is not theirs.
    loads.closed(scenario, port, 2, "/", 64)
    time.sleep(0.5)
    before = machine.resident_kib(pid)
    with loads.held("idle", scenario, port, "--connections", connections, "--seconds", 60) as go_on:
        time.sleep(1)
        within = machine.resident_kib(pid)
        cpu = machine.cpu_seconds(pid)
        time.sleep(2)
        cpu = machine.cpu_seconds(pid) - cpu
        held = go_on()["held"]
    facts = {
        "peer": peer,
        "kind": kind,
        "connections": held,
        "kib_each": (within - before) / max(1, held),
        "mib_before": before / 1024,
        "mib_with": within / 1024,
        "cpu_ms_per_second": 1000 * cpu / 2,
    }
    record("idle.jsonl", facts)
    print(json.dumps(facts), flush=True)


def routes(arguments):
    def work(origin):
        for number in (10, 10_000):
            scenario = dataclasses.replace(SCENARIOS["s4"], name=f"routes{number}", routes=number)
            facts = {"routes": number, "instructions": instructions(scenario, origin, arguments.requests)}
            record("routes.jsonl", facts)
            print(json.dumps(facts), flush=True)

    with_origin(work)


def instructions(scenario, origin, requests):
    """Instructions a request under callgrind, which counts the same on a busy machine as on a quiet one.

    Counting begins after a warm-up that asks for every route, so that neither the start nor the first connections nor what a
    route does once, like making its metrics, are in it.
    """
    port = machine.free_port()
    out = peers.HOME / "run" / f"callgrind.{scenario.name}"
    for old in out.parent.glob(out.name + "*"):
        old.unlink()
    tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    command = tool + peers.shoal(scenario, port, origin, machine.free_port())
    with machine.process(command, machine.PROXY_CORE, port, peers.HOME / "run/callgrind.log") as pid:
        loads.count(scenario, port, 1_000 + scenario.routes)
        control(pid, "--instr=on")
        loads.count(scenario, port, requests)
        control(pid, "--instr=off")
        control(pid, "--dump")
    dumped = out.with_name(out.name + ".1").read_text()
    return int(re.search(r"^totals: (\d+)", dumped, re.MULTILINE).group(1)) / requests


def control(pid, what):
    subprocess.run(["callgrind_control", what, str(pid)], check=True, capture_output=True)


def tables(arguments):
    envoy = str(peers.HOME / "bin/envoy")
    versions = [["nginx", "-v"], ["haproxy", "-v"], [envoy, "--version"], [str(peers.shoal_binary()), "version"], ["rustc", "--version"]]
    for line in machine.facts(versions):
        print(f"- {line}")
    manifest = (peers.HERE.parent / "Cargo.toml").read_text()
    profile = re.search(r"^\[profile\.release\]\n((?:.+\n)*)", manifest, re.MULTILINE)
    print(f"- shoal's release profile: {', '.join(profile.group(1).split(chr(10))[:-1]) if profile else 'the default'}\n")
    parts = ((report.rounds, "rounds.jsonl", (SCENARIOS,)), (report.idle, "idle.jsonl", ()), (report.routes, "routes.jsonl", ()))
    for part, file, more in parts:
        records = report.read(RESULTS / file)
        if records:
            print("\n".join(part(records, *more)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["check", "run", "idle", "routes", "report"])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all where none is named")
    parser.add_argument("--peers", default=",".join(peers.PEERS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--rate", type=int, default=5_000, help="requests a second of the open loop")
    parser.add_argument("--requests", type=int, default=10_000, help="that callgrind counts")
    arguments = parser.parse_args()
    for name in arguments.scenarios:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name}")
    arguments.scenarios = [SCENARIOS[name] for name in arguments.scenarios or SCENARIOS]
    arguments.peers = arguments.peers.split(",")
    for name in arguments.peers:
        if name not in peers.PEERS:
            parser.error(f"no peer {name}")
    {"check": check, "run": run, "idle": idle, "routes": routes, "report": tables}[arguments.verb](arguments)


if __name__ == "__main__":
    main()
