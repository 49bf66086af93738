#!/usr/bin/env python3
"""Says what each step of a journey costs: samples of the processor clock, sorted by the step that they fall into.

The proxy is sampled under the load of s1 with whole call stacks. Steps are inlined into one another, so addresses are
turned back into the functions that they came from, and a sample counts for the innermost step on its stack. It
wants a binary that still knows its lines, of the same code otherwise:

  CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_STRIP=none cargo build --release --bin shoal
  SHOAL=target/release/shoal bench/steps.py [--seconds 5]

Needs perf and llvm-symbolizer.
"""

import argparse
import collections
import os
import re
import subprocess
import threading

import loads
import machine
import peers
from scenarios import SCENARIOS

FREQUENCY = 1999

# The innermost function on the stack whose file matches decides.
STEPS = (
    ("endpoint: sending and receiving", r"node/src/upstream/h1"),
    ("endpoint: picking one, taking and returning its connection", r"actors/src/service|node/src/upstream"),
    ("forward: everything else", r"node/src/request/forward"),
    ("the head's checks", r"node/src/request/hygiene"),
    ("the caller's address, host and path", r"node/src/request/(origin|target)"),
    ("finding the route", r"config/src/"),
    ("limits", r"node/src/request/admit|actors/src/limiter"),
    ("rewriting", r"node/src/request/transform"),
    ("record: ids, trace, metrics, log", r"node/src/(request/trip|telemetry)"),
    ("journey: everything else", r"node/src/request"),
    ("caller: reading and writing HTTP", r"/(hyper|httparse)-[0-9]"),
    ("caller: connection, deadlines, drain", r"node/src/(listener|drain)"),
)


def stacks(text):
    """Lists of (address, symbol, object) with the innermost first."""
    for sample in text.split("\n\n"):
        frames = [re.match(r"\s+([0-9a-f]+) (.*) \((.*)\)$", line) for line in sample.splitlines()]
        frames = [(int(frame[1], 16), frame[2], frame[3]) for frame in frames if frame]
        if frames:
            yield frames


def functions(binary, addresses):
    """What each address was inlined from, innermost first, by file and line."""
    asked = "".join(f"{address:#x}\n" for address in addresses)
    command = ["llvm-symbolizer", f"--obj={binary}", "--inlines", "--functions=linkage", "--demangle", "--output-style=LLVM"]
    printed = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    answers = printed.strip("\n").split("\n\n")
    return {address: answer.split("\n")[1::2] for address, answer in zip(addresses, answers, strict=True)}


def step_of(places):
    for place in places:
        for step, pattern in STEPS:
            if re.search(pattern, place):
                return step
    return "scheduling, and what belongs to no step"


def kernel_call(frames):
    for _, symbol, _ in frames:
        found = re.match(r"__x64_sys_(\w+)", symbol)
        if found:
            return {"recvfrom": "receive", "sendto": "send", "writev": "send", "epoll_wait": "wait"}.get(found[1], "other")
    return "other"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    arguments = parser.parse_args()
    binary = os.environ["SHOAL"]
    scenario = SCENARIOS["s1"]
    origin_port, port = machine.free_port(), machine.free_port()
    record = peers.HOME / "run/steps.data"
    with machine.process(peers.origin(origin_port), machine.LOAD_CORE, origin_port, peers.HOME / "run/origin.log"):
        command = peers.PEERS["shoal"](scenario, port, origin_port, machine.free_port())
        server = machine.process(command, machine.PROXY_CORE, port, peers.HOME / "run/steps.log")
        with server as pid:
            loads.closed(scenario, port, 1, "/", 64)
            load = threading.Thread(target=loads.closed, args=(scenario, port, arguments.seconds + 2, "/", 64))
            load.start()
            perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "--call-graph", "dwarf,16384", "-o", str(record), "-p", str(pid)]
            subprocess.run([*perf, "--", "sleep", str(arguments.seconds)], check=True, stdout=subprocess.DEVNULL)
            load.join()
    script = ["perf", "script", "-i", str(record), "--no-inline", "-F", "ip,sym,dso"]
    samples = list(stacks(subprocess.run(script, capture_output=True, text=True, check=True).stdout))
    name = os.path.basename(binary)
    inside = lambda frame: os.path.basename(frame[2]) == name
    known = functions(binary, sorted({frame[0] for frames in samples for frame in frames if inside(frame)}))
    own, kernel = collections.Counter(), collections.Counter()
    for frames in samples:
        places = [place for frame in frames if inside(frame) for place in known[frame[0]]]
        step = step_of(places)
        if frames[0][2] == "[kernel.kallsyms]":
            side = "endpoint" if step.startswith("endpoint") else "caller" if step.startswith("caller") else "neither"
            call = kernel_call(frames)
            kernel[f"the kernel: {call}" + ("" if side == "neither" or call == "wait" else f", {side}")] += 1
        else:
            own[step] += 1
    print("| step | share |\n|---|---|")
    for counter in (kernel, own):
        for step, count in counter.most_common():
            print(f"| {step} | {100 * count / len(samples):.1f} % |")
    print(f"\n{len(samples)} samples.")


if __name__ == "__main__":
    main()
