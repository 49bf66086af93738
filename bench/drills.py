#!/usr/bin/env python3
"""Shows that a node does not need its actors to serve.

Under load, every actor of a node is killed in turn, supervisors and the root included: no request fails, and the tree is
as it was afterwards, with one more restart on exactly what was killed and what stands below it. Then one actor is
stalled, and the tree is asked for; and at last all of them are stalled at once while an endpoint fails.

  SHOAL=target/release/shoal bench/drills.py [--rate 500] [--stall 30]
"""

import argparse
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import node
from shop import Endpoint, asking

ENDPOINTS = 3
TOKEN = "a token for drills, which nobody has to guess"
# Drills count as failures: more than a quarter of the children of one supervisor in ten seconds would take it along.
PACE = 0.75

FILE = """
[listen.main]
bind = "127.0.0.1:{plain}"

[service.shop]
endpoints = [{endpoints}]
deadlines = {{ first_byte = "500ms" }}

[[route]]
match = "GET /**"
service = "shop"
limit = "1000000/s per client_ip"

[drills]
allow = true

[admin]
bind = "127.0.0.1:{admin}"
token = {{ file = "{token}" }}
metrics = "open"

[telemetry]
access_log = {{ to = "off" }}
"""


class Desk:
    """Asks the admin listener."""

    def __init__(self, admin):
        self.base = f"http://127.0.0.1:{admin}"

    def ask(self, path, body=None):
        head = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(self.base + path, data=data, headers=head), timeout=5) as answer:
            return json.load(answer)

    def actors(self):
        """Every actor by id."""
        found, path = {}, "/v1/actors?limit=500"
        while path:
            page = self.ask(path)
            found.update((actor["id"], actor) for actor in page["items"])
            path = f"/v1/actors?limit=500&cursor={urllib.parse.quote(page['next'])}" if page.get("next") else None
        return found

    def drill(self, actor, what, **more):
        return self.ask("/v1/drills", {"actor": actor, "do": what, **more})

    def lives(self, actor):
        return self.ask(f"/v1/actors/{urllib.parse.quote(actor, safe='')}/history")

    def settled(self, ids, seconds=20):
        """The tree, once all of these run."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            actors = self.actors()
            if set(actors) == ids and all(actor["state"] == "running" for actor in actors.values()):
                return actors
            time.sleep(0.02)
        return self.actors()


def covers(above, below):
    return below == above or below.startswith(above + "/")


def kill_everybody(promises, desk, rate, plain):
    before = desk.settled(set(desk.actors()))
    ids, wrong, untold = set(before), [], []
    seconds = len(ids) * PACE * 1.6 + 5
    begun = time.monotonic() + 0.5
    with asking(plain, rate, begun, seconds) as over:
        time.sleep(1.5)
        expected = {name: actor["restarts"] for name, actor in before.items()}
        for name in sorted(ids):
            next_at = time.monotonic() + PACE
            desk.drill(name, "kill")
            expected = {other: count + covers(name, other) for other, count in expected.items()}
            until = time.monotonic() + 10
            while (now := desk.settled(ids)) and {other: actor["restarts"] for other, actor in now.items()} != expected:
                if time.monotonic() > until:
                    wrong.append(name)
                    expected = {other: actor["restarts"] for other, actor in now.items()}
            if "killed by a drill" not in json.dumps(desk.lives(name)):
                untold.append(name)
            time.sleep(max(0.0, next_at - time.monotonic()))
        after = desk.settled(ids)
        failures, latencies = over()
    promises.keep(not failures, f"{len(failures)} of {len(latencies)} requests failed while {len(ids)} actors were killed in turn {failures[:2] or ''}")
    promises.keep(not wrong, f"each kill: the same ids, all running, one more restart on exactly the killed subtree {wrong or ''}")
    promises.keep(not untold, f"each kill stands in the story of its actor {untold or ''}")
    promises.keep(set(after) == ids, "afterwards the tree has the same ids and shape")


def stall_one(promises, desk):
    name = sorted(name for name in desk.actors() if "/shard:" in name)[7]
    desk.drill(name, "stall", **{"for": "30s"})
    until = time.monotonic() + 5
    while not (busy := desk.actors()[name].get("busy")) and time.monotonic() < until:
        time.sleep(0.02)
    times = []
    for path in ("/v1/actors?limit=500", f"/v1/actors/{urllib.parse.quote(name, safe='')}"):
        since = time.monotonic()
        desk.ask(path)
        times.append((time.monotonic() - since) * 1000)
    shown = bool(busy) and busy["with"] == "stall"
    promises.keep(shown and max(times) <= 150, f"{name} is shown busy with {busy}; the tree took {times[0]:.0f} ms, the actor itself {times[1]:.0f} ms of at most 150")
    desk.drill(name, "release")


def stall_everybody(promises, desk, endpoints, rate, plain, seconds):
    begun = time.monotonic() + 0.5
    with asking(plain, rate, begun, 2 * seconds) as over:
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        stalled = time.monotonic()
        # From below, for a supervisor that stands still cannot be asked to do anything about its children.
        for name in sorted(desk.actors(), key=lambda name: -name.count("/")):
            desk.drill(name, "stall", **{"for": f"{int(seconds) + 30}s"})
        time.sleep(seconds / 3)
        failed = time.monotonic()
        endpoints[0].fall_sick()
        failures, latencies = over()
        share = endpoints[0].asked.value
        time.sleep(1)
        share = endpoints[0].asked.value - share
    for name in sorted(desk.actors(), key=lambda name: name.count("/")):
        desk.drill(name, "release")
    endpoints[0].heal()
    quiet = node.quantile([latency for due, latency in latencies if begun + 1 < due < stalled], 0.99) * 1000
    during = node.quantile([latency for due, latency in latencies if stalled + 1 < due < failed], 0.99) * 1000
    behind = node.quantile([latency for due, latency in latencies if due > failed + 2], 0.99) * 1000
    promises.keep(len(failures) <= len(latencies) / 1000, f"{len(failures)} of {len(latencies)} requests failed with every actor stalled and one of {len(endpoints)} endpoints answering 500")
    promises.keep(during <= quiet + 1 and behind <= quiet + 1, f"p99 before {quiet:.2f} ms, stalled {during:.2f} ms, stalled with the endpoint failing {behind:.2f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--stall", type=float, default=30)
    arguments = parser.parse_args()
    promises = node.Promises()
    plain, admin, *ports = node.ports(2 + ENDPOINTS)
    endpoints = [Endpoint(port) for port in ports]
    with node.folder() as folder:
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        file = folder / "shoal.toml"
        urls = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
        file.write_text(FILE.format(plain=plain, admin=admin, endpoints=urls, token=token))
        with node.running(file, admin):
            desk = Desk(admin)
            kill_everybody(promises, desk, arguments.rate, plain)
            stall_one(promises, desk)
            stall_everybody(promises, desk, endpoints, arguments.rate, plain, arguments.stall)
    for endpoint in endpoints:
        endpoint.heal()
        endpoint.kill()
    promises.end()


if __name__ == "__main__":
    main()
