#!/usr/bin/env python3
"""Shows that callers do not notice when the addresses of a name change, nor when DNS fails.

Three of six endpoints, each a process of its own at an address of its own, stand behind one name, which a small DNS server
on loopback tells with a time to live of one second. Callers ask at a fixed rate all the while. First every address is
exchanged for another, one after the other, as in a rolling deployment: the new endpoint is started, the name tells of it
and not of the old one any more, and when that time has run out the old endpoint is killed. Then the server fails in every way
that it can, and endpoints that the name does not tell of yet have to wait until it is mended. A request has failed if it was
answered with anything but 200 and the whole body, or not within ten seconds.

  SHOAL=target/release/shoal bench/dns.py [--rate 1000] [--rounds 2]
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import signal
import socket
import struct
import time

import node
from drills import TOKEN, Desk
from shop import Endpoint, asking

NAME = "shop.test"
TTL = 1
HOSTS = [f"127.0.0.{last}" for last in range(11, 17)]
LIVE = 3
# So long after an answer has left an address out at most is it still asked: the time to live, and what a question takes.
FORGOTTEN = TTL + 1.5
# So long after a server is mended at most is its answer in use: whoever asks in vain waits longer each time, and it has failed for six
# seconds.
LEARNT = 20

A, NOERROR, SERVFAIL, NXDOMAIN, REFUSED, TRUNCATED = 1, 0, 2, 3, 5, 0x200

FILE = """
[node]
dns = ["127.0.0.1:{dns}"]

[listen.main]
bind = "127.0.0.1:{plain}"

[service.shop]
endpoints = ["http://{name}:{port}"]
deadlines = {{ first_byte = "500ms" }}
pool = {{ warm = 2, drain = "2s" }}

[[route]]
match = "GET /**"
service = "shop"

[admin]
bind = "127.0.0.1:{admin}"
token = {{ file = "{token}" }}
metrics = "open"

[telemetry]
access_log = {{ to = "off" }}
"""


class NameServer:
    """A process that tells the addresses of one name, well or badly."""

    def __init__(self, port):
        self.port = port
        self.ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self.serve, args=(theirs,), daemon=True)
        self.process.start()

    def tell(self, addresses, mood="well"):
        """From now on, and not before this returns."""
        self.ours.send((list(addresses), mood))
        self.ours.recv()

    def serve(self, theirs):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self.answer(theirs))

    async def answer(self, theirs):
        self.addresses, self.mood, self.open = [], "well", []
        loop = asyncio.get_running_loop()
        orders = asyncio.Queue()
        loop.add_reader(theirs.fileno(), lambda: orders.put_nowait(theirs.recv()))
        await self.listen()
        while True:
            self.addresses, mood = await orders.get()
            if mood == "dead":
                await self.close()
            elif self.mood == "dead":
                await self.listen()
            self.mood = mood
            theirs.send("done")

    async def listen(self):
        server = self

        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, question, caller):
                said = server.say(question, datagram=True)
                if server.mood == "slow":
                    asyncio.get_running_loop().call_later(3, self.transport.sendto, said, caller)
                elif said:
                    self.transport.sendto(said, caller)

        async def converse(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    said = self.say(await reader.readexactly(length), datagram=False)
                    if not said:
                        return writer.close()
                    writer.write(struct.pack("!H", len(said)) + said)

        loop, address = asyncio.get_running_loop(), ("127.0.0.1", self.port)
        transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=address)
        self.open = [transport, await asyncio.start_server(converse, *address)]

    async def close(self):
        for listener in self.open:
            listener.close()

    def say(self, question, datagram):
        """The answer to a question, byte for byte; empty where there is none."""
        end = question.index(0, 12) + 5
        asked, kind = question[12:end], struct.unpack("!H", question[end - 4 : end - 2])[0]
        mood = self.mood
        if mood == "silent" or mood == "truncated, and TCP is silent" and not datagram:
            return b""
        if mood == "garbage":
            return b"\xff" * 40
        flags, answers = 0x8400, []
        if mood in ("SERVFAIL", "NXDOMAIN", "REFUSED"):
            flags |= {"SERVFAIL": SERVFAIL, "NXDOMAIN": NXDOMAIN, "REFUSED": REFUSED}[mood]
        elif mood.startswith("truncated") and datagram:
            flags |= TRUNCATED
        elif kind == A and mood != "no address":
            answers = [struct.pack("!HHHIH", 0xC00C, A, 1, TTL, 4) + socket.inet_aton(address) for address in self.addresses]
        # An answer to another question, as somebody sends who guesses.
        number = struct.pack("!H", struct.unpack("!H", question[:2])[0] ^ (mood == "forged"))
        return number + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0) + asked + b"".join(answers)


class Deployment:
    """Endpoints behind the name, of which so many serve at a time."""

    def __init__(self, server, port):
        self.server = server
        self.endpoints = {host: Endpoint(port, host) for host in HOSTS}
        for host in HOSTS[LIVE:]:
            self.endpoints[host].kill()
        self.live, self.spare = HOSTS[:LIVE], HOSTS[LIVE:]
        server.tell(self.live)

    def exchange(self, mood="well"):
        """Starts another endpoint and lets the name tell of it in the place of the oldest, which goes on until it is retired."""
        old, new = self.live[0], self.spare[0]
        self.endpoints[new].heal()
        self.live, self.spare = [*self.live[1:], new], [*self.spare[1:], old]
        self.server.tell(self.live, mood)
        return old

    def asked(self, host):
        return self.endpoints[host].asked.value

    def end(self):
        for endpoint in self.endpoints.values():
            endpoint.heal()
            endpoint.kill()


class Shown:
    """What the node shows of the name."""

    def __init__(self, admin):
        self.desk = Desk(admin)

    def service(self):
        return self.desk.ask("/v1/upstreams")[0]

    def addresses(self):
        return sorted(endpoint["endpoint"].split("@")[-1].rsplit(":", 1)[0] for endpoint in self.service()["endpoints"])

    def until(self, wanted, seconds):
        """How long it took until the service was as it should be; `None` if it never was."""
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            if wanted(self):
                return passed
            time.sleep(0.05)
        return None


def roll(promises, deployment, shown, rate, plain, rounds):
    exchanges, late = rounds * len(HOSTS), []
    step = FORGOTTEN + 1
    with asking(plain, rate, time.monotonic() + 0.5, exchanges * (step + 0.7) + 3) as over:
        time.sleep(2)
        for _ in range(exchanges):
            old = deployment.exchange()
            time.sleep(FORGOTTEN)
            count = deployment.asked(old)
            time.sleep(1)
            if deployment.asked(old) != count:
                late.append(old)
            deployment.endpoints[old].kill()
        taken = shown.addresses() == sorted(deployment.live)
        failures, latencies = over()
    promises.keep(not failures, f"{len(failures)} of {len(latencies)} requests failed while addresses were exchanged {exchanges} times, one after the other {failures[:2] or ''}")
    promises.keep(not late, f"{FORGOTTEN} s after an answer has left an address out nobody asks it any more {late or ''}")
    promises.keep(taken, f"in the end the node has the addresses that the name has: {', '.join(deployment.live)}")


# What becomes of a change of addresses while a server is like that: it is taken, or waits until the server is mended.
MOODS = {
    "dead": "waits",
    "silent": "waits",
    "garbage": "waits",
    "forged": "waits",
    "SERVFAIL": "waits",
    "REFUSED": "waits",
    "NXDOMAIN": "waits",
    "no address": "waits",
    "truncated, and TCP is silent": "waits",
    "truncated": "is taken",
    "slow": "either",
}


def fail(promises, deployment, shown, rate, plain, mood, outcome):
    before = sorted(deployment.live)
    with asking(plain, rate, time.monotonic() + 0.5, 9 + LEARNT) as over:
        time.sleep(1.5)
        old = deployment.exchange(mood)
        after = sorted(deployment.live)
        time.sleep(6)
        during, state = shown.addresses(), shown.service()["names"][0]
        deployment.server.tell(deployment.live)
        learnt = shown.until(lambda shown: shown.addresses() == after, LEARNT)
        time.sleep(1.5)
        deployment.endpoints[old].kill()
        failures, latencies = over()
    promises.keep(not failures, f"{mood}: {len(failures)} of {len(latencies)} requests failed {failures[:2] or ''}")
    expected = {"waits": [before], "is taken": [after], "either": [before, after]}[outcome]
    why = f", {state['state']}: {state['why']}" if state["why"] else f", {state['state']}"
    promises.keep(during in expected, f"{mood}: the node has the addresses of {'before' if during == before else 'now' if during == after else during}{why}")
    told = "never" if learnt is None else f"after {learnt:.1f} s of at most {LEARNT}"
    promises.keep(learnt is not None, f"{mood}: once the server is mended, its answer is in use {told}")


def crash(promises, deployment, shown, rate, plain):
    """Hosts that die before the name knows."""
    with asking(plain, rate, time.monotonic() + 0.5, 12) as over:
        time.sleep(1.5)
        for _ in range(LIVE):
            deployment.endpoints[deployment.live[0]].kill()
            time.sleep(1)
            deployment.exchange()
            time.sleep(2)
        failures, latencies = over()
    share = len(failures) / max(1, len(latencies))
    promises.keep(share <= 0.001, f"{len(failures)} of {len(latencies)} requests failed while {LIVE} hosts died, each a second before the name knew: {share:.3%} of at most 0.1 %")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    promises = node.Promises()
    plain, admin, dns, port = node.ports(4)
    deployment = Deployment(NameServer(dns), port)
    with node.folder() as folder:
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        file = folder / "shoal.toml"
        file.write_text(FILE.format(plain=plain, admin=admin, dns=dns, port=port, name=NAME, token=token))
        with node.running(file, admin):
            shown = Shown(admin)
            found = shown.until(lambda shown: shown.addresses() == sorted(deployment.live), LEARNT)
            promises.keep(found is not None, f"every address of the name is an endpoint: {', '.join(deployment.live)}")
            roll(promises, deployment, shown, arguments.rate, plain, arguments.rounds)
            for mood, outcome in MOODS.items():
                fail(promises, deployment, shown, arguments.rate, plain, mood, outcome)
            crash(promises, deployment, shown, arguments.rate, plain)
    deployment.end()
    promises.end()


if __name__ == "__main__":
    main()
