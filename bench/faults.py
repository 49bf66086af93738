#!/usr/bin/env python3
"""Shows that callers do not notice when endpoints of a service fail.

Five endpoints, each a process of its own, stand behind one service whose first byte may take 500 ms. Callers ask at a
fixed rate all the while. One endpoint after the other is killed, stopped, or made to answer 500, each for a while and
then healed; then two at once; and at last every endpoint is restarted, one after the other. A request has failed if it was answered with anything but 200 and the whole body,
or not within ten seconds.

  SHOAL=target/release/shoal bench/faults.py [--rate 2000] [--seconds 60]
"""

import argparse
import time

import node
from shop import Endpoint, asking

ENDPOINTS = 5
# No failure may come later than this after a fault.
NOTICED = 2.0

FILE = """
[listen.main]
bind = "127.0.0.1:{plain}"

[service.shop]
endpoints = [{endpoints}]
deadlines = {{ first_byte = "500ms" }}

[[route]]
match = "GET /**"
service = "shop"

[admin]
bind = "127.0.0.1:{admin}"
metrics = "open"

[telemetry]
access_log = {{ to = "off" }}
"""


def plan(seconds):
    """What happens when, in parts of the whole: instant, endpoint, and what is done to it."""
    part = seconds / 20
    return [
        (2 * part, "endpoint 0 killed", [(0, Endpoint.kill)]),
        (4 * part, "healed", [(0, Endpoint.heal)]),
        (6 * part, "endpoint 1 stopped", [(1, Endpoint.stop)]),
        (8 * part, "healed", [(1, Endpoint.heal)]),
        (10 * part, "endpoint 2 answers 500", [(2, Endpoint.fall_sick)]),
        (12 * part, "healed", [(2, Endpoint.heal)]),
        (14 * part, "endpoint 3 killed and endpoint 4 stopped", [(3, Endpoint.kill), (4, Endpoint.stop)]),
        (16 * part, "healed", [(3, Endpoint.heal), (4, Endpoint.heal)]),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    promises = node.Promises()
    plain, admin, *ports = node.ports(2 + ENDPOINTS)
    endpoints = [Endpoint(port) for port in ports]
    with node.folder() as folder:
        file = folder / "shoal.toml"
        urls = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
        file.write_text(FILE.format(plain=plain, admin=admin, endpoints=urls))
        with node.running(file, admin):
            begun = time.monotonic() + 0.5
            faults, healed, counts = [], [], []
            with asking(plain, arguments.rate, begun, arguments.seconds) as over:
                for after, what, deeds in [*plan(arguments.seconds), (arguments.seconds, "over", [])]:
                    counts += watched(endpoints, begun + after)
                    for number, deed in deeds:
                        deed(endpoints[number])
                    if what == "healed":
                        healed.append((time.monotonic(), [number for number, _ in deeds]))
                    elif deeds:
                        faults.append((time.monotonic(), what))
                failures, latencies = over()
            restarts = roll(plain, arguments.rate, endpoints)
    tell(promises, arguments.seconds / 10, begun, faults, recovery(healed, counts), failures, latencies)
    missed, asked = len(restarts[0]), len(restarts[1])
    promises.keep(not missed, f"{missed} of {asked} requests failed while every endpoint was restarted, one after the other {restarts[0][:1] or ''}")
    for endpoint in endpoints:
        endpoint.heal()
        endpoint.kill()
    promises.end()


def roll(port, rate, endpoints):
    """Restarts one endpoint after the other, each away for a second. Callers' failures and latencies."""
    begun = time.monotonic() + 0.5
    with asking(port, rate, begun, 2 * len(endpoints) + 2) as over:
        time.sleep(1.5)
        for endpoint in endpoints:
            endpoint.kill()
            time.sleep(1)
            endpoint.heal()
            time.sleep(1)
        return over()


def watched(endpoints, until):
    """What each endpoint has been asked so far, twice a second until then."""
    counts = []
    while (rest := until - time.monotonic()) > 0:
        counts.append((time.monotonic(), [endpoint.asked.value for endpoint in endpoints]))
        time.sleep(min(0.5, rest))
    return counts


def recovery(healed, counts):
    """How large a part of the requests each healed endpoint gets, as pairs of seconds since then and that part."""
    lines = []
    for at, numbers in healed:
        for number in numbers:
            parts = []
            for (since, before), (now, after) in zip(counts, counts[2:]):
                gained = [count - earlier for count, earlier in zip(after, before)]
                if since >= at and sum(gained):
                    parts.append((now - at, gained[number] / sum(gained)))
            lines.append((number, parts))
    return lines


def tell(promises, lasting, begun, faults, shares, failures, latencies):
    share = len(failures) / max(1, len(latencies))
    promises.keep(share <= 0.001, f"{len(failures)} of {len(latencies)} requests failed: {share:.3%} of at most 0.1 %")
    for at, what in faults:
        after = [sent - at for sent, _, _ in failures if at <= sent < at + lasting]
        worst = max(after, default=0.0)
        slow = node.quantile([latency for due, latency in latencies if at <= due < at + 2], 0.99) * 1000
        promises.keep(worst <= NOTICED, f"{what}: {len(after)} failed, the last sent {worst:.2f} s after it; p99 in the two seconds behind it {slow:.0f} ms")
    late = [f"{sent - begun:.1f} s: {why}" for sent, _, why in failures[:5]]
    if late:
        print("        " + "\n        ".join(late))
    for number, parts in shares:
        shown = ", ".join(f"{part:.1%} after {after:.0f} s" for after, part in parts[::4])
        promises.keep(parts[0][1] < 0.15, f"endpoint {number} came back gradually: {shown}")
    quiet = [latency for due, latency in latencies if due < faults[0][0] - 0.5]
    print(f"        p99 before the first fault {node.quantile(quiet, 0.99) * 1000:.1f} ms, of all {node.quantile([latency for _, latency in latencies], 0.99) * 1000:.1f} ms")


if __name__ == "__main__":
    main()
