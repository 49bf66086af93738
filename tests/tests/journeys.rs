//! What a caller, an endpoint and an operator can rely on, each as one sentence.
//!
//! Every test starts a whole node on loopback from the text of a configuration, and meets it only over sockets.

#![expect(clippy::disallowed_methods, reason = "a node is met from outside here, over real sockets and with real files")]

mod journeys {
    mod actors;
    mod addresses;
    mod admin;
    mod balancing;
    mod bounds;
    mod cluster;
    mod cluster_failover;
    mod cluster_memory;
    mod cluster_trust;
    mod connections;
    mod deadlines;
    mod discovery;
    mod drain;
    mod drained;
    mod endpoints;
    mod floods;
    mod forwarding;
    mod framing;
    mod h2;
    mod judging;
    mod limits;
    mod locality;
    mod names;
    mod paths;
    mod peers;
    mod proxy_protocol;
    mod reload;
    mod retries;
    mod routing;
    mod slow;
    mod starting;
    mod streaming;
    mod telemetry;
    mod tls;
    mod websocket;
}
