"""Tables out of the records. Ratios are taken inside a round, where both peers met the same machine."""

import json
import statistics

BASE = "nginx"
FOREIGN_MAX = 0.05


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def middle(values, digits=1):
    values = [value for value in values if value is not None]
    return f"{statistics.median(values):,.{digits}f}" if values else "–"


def spread(values, digits):
    if not values:
        return "–"
    text = f"{statistics.median(values):.{digits}f}"
    return f"{text} ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else text


def usable(record):
    # The kernel counts a core's time in ticks, and wake-ups at a fixed rate fall in step with them: there the count of who
    # had the core says anything from nothing to all of it.
    disturbed = record["foreign"] > FOREIGN_MAX and not record["phase"].endswith("/s")
    return not disturbed and record["errors"] == 0 and record["not_2xx"] == 0


def rounds(records, scenarios):
    kept = [record for record in records if usable(record)]
    yield f"{len(kept)} of {len(records)} measurements used; the others had errors, or in a closed loop more than {FOREIGN_MAX:.0%} of the proxy's core taken by others."
    for scenario in scenarios.values():
        of_scenario = [record for record in kept if record["scenario"] == scenario.name]
        for phase in dict.fromkeys(record["phase"] for record in of_scenario):
            of_phase = [record for record in of_scenario if record["phase"] == phase]
            yield from ["", f"### {scenario.name}, {phase}: {scenario.what}", ""]
            yield from phase_table(of_phase)
            yield ""


def phase_table(records):
    base = {record["round"]: record["cpu_us"] for record in records if record["peer"] == BASE}
    yield f"| peer | rounds | CPU µs a request | ratio to {BASE} in the round | requests/s | proxy's core | p50 µs | p99 µs | MiB resident |"
    yield "|---|---|---|---|---|---|---|---|---|"
    peers = dict.fromkeys(record["peer"] for record in records)
    by_peer = {peer: [record for record in records if record["peer"] == peer] for peer in peers}
    for peer, of_peer in sorted(by_peer.items(), key=lambda item: statistics.median(r["cpu_us"] for r in item[1])):
        ratios = [record["cpu_us"] / base[record["round"]] for record in of_peer if record["round"] in base]
        cells = [
            peer,
            str(len(of_peer)),
            spread([record["cpu_us"] for record in of_peer], 1),
            spread(ratios, 2),
            middle([record["done"] / record["seconds"] for record in of_peer], 0),
            middle([100 * record["core"] for record in of_peer], 0) + " %",
            middle([record.get("p50") for record in of_peer], 0),
            middle([record.get("p99") for record in of_peer], 0),
            middle([record["rss_mib"] for record in of_peer], 0),
        ]
        yield "| " + " | ".join(cells) + " |"


def idle(records):
    yield from ["", "### Idle connections after one request on each", ""]
    yield "| peer | connections | KiB a connection | MiB before | MiB with them | CPU ms a second |"
    yield "|---|---|---|---|---|---|"
    latest = {(record["kind"], record["peer"]): record for record in records}
    for (kind, peer), record in sorted(latest.items()):
        number = lambda key: f"{record[key]:.1f}"
        connections = f"{record['connections']:,} {kind}"
        cells = [peer, connections, number("kib_each"), number("mib_before"), number("mib_with"), number("cpu_ms_per_second")]
        yield "| " + " | ".join(cells) + " |"


def routes(records):
    latest = {record["routes"]: record for record in records}
    yield from ["", "### Instructions a request by the number of routes", "", "| routes | instructions a request | ratio |", "|---|---|---|"]
    base = latest[min(latest)]["instructions"]
    for number in sorted(latest):
        each = latest[number]["instructions"]
        yield f"| {number:,} | {each:,.0f} | {each / base:.3f} |"
