#!/usr/bin/env python3
"""Shows that nodes form a cluster by themselves, stay one while they are killed, and let callers notice nothing.

  forms     five nodes in two regions, started in any order with one seed: all see all within 10 s. A sixth comes with a token
            alone. Certificates that live for a minute are renewed under load: no request fails.
  faults    nodes are killed, stopped and started again at random under load: views agree within 10 s after each, and no request
            to a live node fails. Then all are killed and started from their disks, without the seed.
  rolling   three nodes are restarted one after the other, five times, under callers that heed the drain: no request fails.

  SHOAL=target/release/shoal bench/cluster.py [forms] [faults] [rolling] [--seconds 120] [--rate 2000] [--rounds 5] [--seed N]
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import signal
import subprocess
import time
import urllib.error
import urllib.request

import node
import shop
from peers import shoal_binary

TOKEN = "a token for operators, which nobody has to guess"
AGREE = 10

FILE = """
[node]
name = "{name}"
region = "{region}"
zone = "{zone}"
state_dir = "{folder}/{name}"
drain = {{ wait = "{wait}", bound = "10s" }}

[cluster]
name = "shop"
bind = "127.0.0.1:{peer}"
{join}

[listen.main]
bind = "127.0.0.1:{plain}"
serve = ["health"]

[service.shop]
endpoints = ["http://127.0.0.1:{origin}"]

[[route]]
match = "GET /item"
service = "shop"

[admin]
bind = "127.0.0.1:{admin}"
token = {{ file = "{folder}/operator" }}
metrics = "open"

[telemetry]
access_log = {{ to = "off" }}
"""


class Member:
    """A node of the cluster, whether its process runs or not."""

    def __init__(self, folder, name, region, origin, wait="0s"):
        self.name, self.region, self.folder = name, region, folder
        self.plain, self.admin, self.peer = node.ports(3)
        self.file = folder / f"{name}.toml"
        self.origin, self.wait = origin, wait
        self.process = None
        # Spans in which nobody can expect an answer of it.
        self.away = []
        self.write("")

    def write(self, join):
        text = FILE.format(name=self.name, region=self.region, zone=f"{self.region}-1", folder=self.folder, join=join, peer=self.peer, plain=self.plain, origin=self.origin, admin=self.admin, wait=self.wait)
        self.file.write_text(text)

    def start(self):
        self.process = node.Node(self.file, self.admin)

    def ready(self):
        self.process.wait_until_ready()
        if self.away and self.away[-1][1] is None:
            self.away[-1] = (self.away[-1][0], time.monotonic())

    def signal(self, number):
        if number in (signal.SIGKILL, signal.SIGSTOP):
            self.away.append((time.monotonic(), None))
        self.process.signal(number)
        if number == signal.SIGKILL:
            self.process.process.wait()
        if number == signal.SIGCONT:
            self.away[-1] = (self.away[-1][0], time.monotonic())

    def present(self):
        return self.process is not None and self.process.process.poll() is None and not (self.away and self.away[-1][1] is None)

    def ask(self, path, patience=3):
        head = {"authorization": f"Bearer {TOKEN}"}
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers=head), timeout=patience) as answer:
            return json.load(answer)

    def sees(self):
        """Names of the members that it says are alive."""
        return {member["name"] for member in self.ask("/v1/members?limit=500")["items"] if member["seen"] == "alive" and member["state"] in ("joining", "serving")}

    def excuses(self, sent, ended):
        return any(sent <= (until or float("inf")) + 0.05 and ended >= since - 0.05 for since, until in self.away)


def shoal(*arguments):
    done = subprocess.run([shoal_binary(), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"shoal {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def agreed(members, within=AGREE):
    """Seconds until everybody who is present sees everybody who is, and nobody else; None if that takes longer."""
    since = time.monotonic()
    while time.monotonic() - since < within:
        present = {member.name for member in members if member.present()}
        with contextlib.suppress(OSError, urllib.error.URLError):
            if all(member.sees() == present for member in members if member.present()):
                return time.monotonic() - since
        time.sleep(0.05)
    return None


def views(member):
    """Who sees whom, as this node draws it."""
    return {view["by"]: {name for name, seen in view["sees"].items() if seen == "alive"} for view in member.ask("/v1/views")["views"]}


def matrix_agreed(members, within=AGREE):
    since, wrong = time.monotonic(), []
    names = {member.name for member in members if member.present()}
    while time.monotonic() - since < within:
        wrong = [member.name for member in members if member.present() and {by: seen & names for by, seen in views(member).items() if by in names} != {name: names for name in names}]
        if not wrong:
            return time.monotonic() - since, wrong
        time.sleep(0.1)
    return None, wrong


def spelled(seconds):
    return "never" if seconds is None else f"{seconds:.1f} s"


@contextlib.contextmanager
def cluster(folder, regions, life, origin, wait="0s"):
    """Members with certificates of their own cluster, not started yet; the first is the seed of the others."""
    (folder / "operator").write_text(TOKEN)
    (folder / "operator").chmod(0o600)
    members = [Member(folder, f"{region}-{number}", region, origin, wait) for region, count in regions for number in range(1, count + 1)]
    first = members[0]
    shoal("cluster", "init", "-c", first.file, "--certificate-life", life)
    others = sorted({region for region, _ in regions} - {first.region})
    for region in others:
        shoal("cluster", "init", "-c", first.file, "--region", region, "--certificate-life", life)
    for member in members[1:]:
        invite(folder, first, member)
    try:
        yield members
    finally:
        for member in members:
            if member.process and member.process.process.poll() is None:
                member.process.process.kill()
                member.process.process.wait()


def invite(folder, host, member):
    token = folder / f"{member.name}.token"
    token.write_text(shoal("cluster", "token", "-c", host.file, "--region", member.region, "--expires", "10m").strip())
    token.chmod(0o600)
    member.write(f'join = ["127.0.0.1:{host.peer}"]\ntoken = {{ file = "{token}" }}')


@contextlib.contextmanager
def callers(members, rate, seconds):
    """Callers of each member. Yields what waits for them and returns requests, and failures that nothing excuses."""
    begun = time.monotonic() + 0.5
    with contextlib.ExitStack() as stack:
        overs = [(member, stack.enter_context(shop.asking(member.plain, rate, begun, seconds))) for member in members]

        def over():
            asked, failed = 0, []
            for member, wait in overs:
                failures, latencies = wait()
                asked += len(latencies)
                failed += [(member.name, *failure) for failure in failures if not member.excuses(failure[0], failure[1])]
            return asked, failed

        yield over


def forms(promises, folder, arguments, origin):
    with cluster(folder, [("eu", 3), ("us", 2)], "60s", origin) as members:
        order = members[:]
        random.shuffle(order)
        for member in order:
            member.start()
        since = time.monotonic()
        for member in order:
            member.ready()
        took = agreed(members)
        promises.keep(took is not None, f"five nodes in two regions, started as {', '.join(member.name for member in order)}: all see all {spelled(took)} after the last was ready ({spelled(time.monotonic() - since)} after the first was started)")
        took, wrong = matrix_agreed(members)
        promises.keep(took is not None, f"every node draws the same full matrix in /v1/views {spelled(took)} later {wrong or ''}")
        sixth = Member(folder, "us-3", "us", origin)
        members.append(sixth)
        invite(folder, members[0], sixth)
        sixth.start()
        sixth.ready()
        took = agreed(members)
        promises.keep(took is not None, f"a sixth with a token alone is seen by all {spelled(took)} after it was ready")
        before = {member.name: member.process.metric("shoal_cluster_certificate_renewals_total") for member in members}
        with callers(members, 50, 100) as over:
            asked, failed = over()
        renewed = {member.name: member.process.metric("shoal_cluster_certificate_renewals_total") - before[member.name] for member in members}
        promises.keep(not failed, f"{len(failed)} of {asked} requests failed in 100 s {failed[:2] or ''}")
        promises.keep(min(renewed.values()) >= 1, f"meanwhile certificates that live for 60 s were renewed {renewed}")
        promises.keep(agreed(members, 2) is not None, "afterwards all see all")


def faults(promises, folder, arguments, origin):
    chance = random.Random(arguments.seed)
    with cluster(folder, [("eu", 3), ("us", 2)], "1h", origin) as members:
        for member in members:
            member.start()
        for member in members:
            member.ready()
        promises.keep(agreed(members) is not None, "five nodes see each other")
        told, slowest = [], 0.0
        with callers(members, 40, arguments.seconds) as over:
            until = time.monotonic() + arguments.seconds - AGREE
            while time.monotonic() < until:
                member, fault = chance.choice(members), chance.choice(["kill", "stop"])
                member.signal(signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
                gone = agreed(members)
                told.append((f"{fault} {member.name}", gone))
                time.sleep(chance.uniform(0, 3))
                if fault == "kill":
                    member.start()
                    member.ready()
                else:
                    member.signal(signal.SIGCONT)
                told.append((f"{member.name} again", agreed(members)))
            asked, failed = over()
        late = [what for what, took in told if took is None]
        slowest = max((took for _, took in told if took is not None), default=0.0)
        promises.keep(not late, f"{len(told)} faults and returns in {arguments.seconds} s: views agree within {AGREE} s of each, after {slowest:.1f} s at worst {late or ''}")
        promises.keep(not failed, f"{len(failed)} of {asked} requests to live nodes failed {failed[:3] or ''}")
        for member in members:
            member.signal(signal.SIGKILL)
        for member in members:
            member.write("")
            member.start()
        for member in members:
            member.ready()
        took = agreed(members, 20)
        promises.keep(took is not None, f"all killed and started again from their disks, without a seed: all see all {spelled(took)} after the last was ready")


async def heedful(rate, begun, number, ready, over, failures, latencies):
    """A caller that asks whoever is ready, and lets go of a connection that it is asked to let go of."""
    request = b"GET /item HTTP/1.1\r\nhost: shop.test\r\n\r\n"
    streams, turn = None, 0
    while not over():
        due = begun + (turn * shop.CONNECTIONS + number) / rate
        turn += 1
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        try:
            if streams is None:
                candidates = sorted(ready)
                port = candidates[(number + turn) % len(candidates)]
                streams = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = streams
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), shop.PATIENCE)
            lines = head.decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            await asyncio.wait_for(reader.readexactly(length), shop.PATIENCE)
            if not head.startswith(b"HTTP/1.1 200 "):
                failures.append((sent, time.monotonic(), lines[0]))
            if "connection: close" in lines:
                writer.close()
                streams = None
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, StopIteration, ZeroDivisionError) as error:
            failures.append((sent, time.monotonic(), repr(error)))
            streams = None
        latencies.append((due, time.monotonic() - due))


async def probe(port, ready, over):
    while not over():
        answer = b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.readline(), 1)
            writer.close()
        (ready.add if b" 200 " in answer else ready.discard)(port)
        await asyncio.sleep(0.1)


def heeding(ports, rate, begun, until, stop, said):
    def over():
        return stop.is_set() or time.monotonic() > until

    async def everybody():
        ready, failures, latencies = set(ports), [], []
        probes = [probe(port, ready, over) for port in ports]
        asking = [heedful(rate, begun, number, ready, over, failures, latencies) for number in range(shop.CONNECTIONS)]
        # Everybody looks whether it is over: a task that is cancelled while it waits with a limit may miss that, and go on.
        await asyncio.gather(*asking, *probes)
        said.send((failures, len(latencies), time.monotonic() - begun))

    asyncio.run(everybody())


def rolling(promises, folder, arguments, origin):
    with cluster(folder, [("eu", 3)], "1h", origin, wait="1s") as members:
        for member in members:
            member.start()
        for member in members:
            member.ready()
        promises.keep(agreed(members) is not None, "three nodes see each other")
        ours, theirs = multiprocessing.Pipe()
        stop = multiprocessing.Event()
        begun = time.monotonic() + 0.5
        caller = multiprocessing.Process(target=heeding, args=([member.plain for member in members], arguments.rate, begun, begun + 600, stop, theirs), daemon=True)
        caller.start()
        # What the caller says ends with it, also where it fails.
        theirs.close()
        time.sleep(2)
        left, started, seen = [], [], []
        for _ in range(arguments.rounds):
            for member in members:
                since = time.monotonic()
                member.process.signal(signal.SIGTERM)
                member.process.process.wait(30)
                left.append(time.monotonic() - since)
                member.start()
                member.ready()
                started.append(time.monotonic() - since - left[-1])
                took = agreed(members)
                seen.append(float("inf") if took is None else took)
                time.sleep(0.3)
        time.sleep(1)
        stop.set()
        failures, asked, seconds = ours.recv()
        caller.join()
        promises.keep(not failures, f"{len(failures)} of {asked} requests failed at {asked / seconds:,.0f} requests/s in {arguments.rounds} rolling restarts of three nodes {failures[:3] or ''}")
        promises.keep(max(seen) <= AGREE, f"after each restart all see all, {max(seen):.1f} s after it was ready at worst; a node took {max(left):.1f} s at worst to drain, and {max(started):.1f} s to be ready")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], "forms", "faults", "rolling"], default=[])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    promises = node.Promises()
    origin = shop.Endpoint(node.ports(1)[0])
    random.seed(arguments.seed)
    for part in (forms, faults, rolling):
        if not arguments.parts or part.__name__ in arguments.parts:
            with node.folder() as folder:
                part(promises, folder, arguments, origin.port)
    origin.kill()
    promises.end()


if __name__ == "__main__":
    main()
