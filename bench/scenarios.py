"""What is asked for. A scenario is a set of features; every peer is configured from the same set."""

from dataclasses import dataclass

ROUTES = 100
KEYS = 10_000
TENANT = "acme"


@dataclass(frozen=True)
class Scenario:
    name: str
    what: str
    tls: bool = False
    h2: bool = False
    # How many routes there are beside nothing else; 0 is one route for everything.
    routes: int = 0
    limit: bool = False
    # An access-log line for every request and a metrics endpoint.
    watched: bool = False
    # Full TLS handshakes are measured too.
    handshakes: bool = False
    # Paths that are measured one after the other, each with its number of connections.
    paths: tuple = (("/", 64),)
    # At a fixed rate only where the open-loop generator speaks the protocol and the answers are small.
    rate: bool = True

    @property
    def path(self):
        return "/svc{}/item" if self.routes else "/"

    def headers(self):
        """Headers that every request carries."""
        return {"x-tenant": TENANT} if self.routes else {}

    def keys(self):
        return KEYS if self.limit else 0


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("s1", "plain HTTP/1.1, 1 KiB answers"),
        Scenario("s2", "TLS 1.3 in, keep-alive; full handshakes beside it", tls=True, handshakes=True),
        Scenario("s3", "HTTP/2 in the clear by prior knowledge in, HTTP/1.1 out", h2=True, rate=False),
        Scenario("s4", f"{ROUTES} routes, each with a header predicate and a header rewrite", routes=ROUTES),
        Scenario("s6", f"a limit by a header, {KEYS:,} keys, never refusing", limit=True),
        Scenario(
            "s7n",
            "s2, s4 and s6 together, with an access log and metrics",
            tls=True,
            routes=ROUTES,
            limit=True,
            watched=True,
        ),
        Scenario("s8", "answers of 64 KiB and of 1 MiB", paths=(("/64k", 16), ("/1m", 8)), rate=False),
    )
}
