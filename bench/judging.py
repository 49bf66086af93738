#!/usr/bin/env python3
"""Says what judging endpoints costs: instructions a request with probes, outlier detection and breakers, and without.

The same binary, the same three endpoints, and everything that judges switched on or off in the file.

  SHOAL=target/release/shoal bench/judging.py [--requests 10000]
"""

import argparse
import contextlib

import bench
import machine
import peers
from scenarios import SCENARIOS

ON = """
health = { path = "/", interval = "1s" }
breaker = { max_requests = 10000, max_requests_per_endpoint = 5000, error_ratio = "50%" }
"""
OFF = """
outlier = { enabled = false }
"""


def file(ports, judging):
    endpoints = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)

    def shoal(scenario, port, origin, metrics):
        text = f"""
[node]
workers = 1
drain = {{ wait = "0s", bound = "1s" }}

[listen.main]
bind = "127.0.0.1:{port}"
bounds = {{ requests_per_connection = {peers.FOREVER} }}

[service.origin]
endpoints = [{endpoints}]
{judging}
[[route]]
match = "/**"
service = "origin"

[admin]
enabled = false

[telemetry]
access_log = {{ to = "off" }}
"""
        return [str(peers.shoal_binary()), "run", "-c", peers.write("shoal.judging.toml", text)]

    return shoal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    ports = [machine.free_port() for _ in range(3)]
    counted = {}
    with contextlib.ExitStack() as origins:
        for port in ports:
            command = peers.origin(port)
            path = peers.write(f"origin.{port}.conf", open(command[2]).read().replace("origin.pid", f"origin.{port}.pid"))
            origins.enter_context(machine.process(["nginx", "-c", path], machine.LOAD_CORE, port, peers.HOME / "run/origin.log"))
        for name, judging in (("off", OFF), ("on", ON)):
            peers.shoal = file(ports, judging)
            counted[name] = bench.instructions(SCENARIOS["s1"], None, arguments.requests)
            print(f"judging {name}: {counted[name]:,.0f} instructions a request", flush=True)
    print(f"{counted['on'] / counted['off'] - 1:+.2%}")


if __name__ == "__main__":
    main()
