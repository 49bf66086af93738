//! A node's part in its cluster, in numbers.

use super::Part;
use crate::telemetry::metrics::{
    CLUSTER_CERT_NOT_AFTER, CLUSTER_CERT_RENEWALS, CLUSTER_CLOCK_OFFSET, CLUSTER_CONFIGURATIONS, CLUSTER_DROPPED, CLUSTER_FRAME_BYTES,
    CLUSTER_FRAMES, CLUSTER_LINKS, CLUSTER_MEMBERS, CLUSTER_MEMORY_TROUBLE, CLUSTER_REFUSED, CLUSTER_REGIONS, CLUSTER_VIEWS_DISAGREE,
    Metrics,
};
use cluster::{
    gossip::Membership,
    member::{Member, Seen},
    peers::{Kind, Reasons},
    views::{Cell, Matrix},
};
use std::{sync::atomic::Ordering::Relaxed, time::UNIX_EPOCH};

impl Part {
    /// Brings up to date what is counted elsewhere.
    pub(crate) fn observe(&self, metrics: &Metrics) {
        let view = self.gossip.view();
        let seen = |which: fn(&Seen) -> bool| view.members.values().filter(|member| which(&member.seen)).count() as f64;
        metrics.gauge(&CLUSTER_MEMBERS, &["alive"]).set(seen(|seen| *seen == Seen::Alive));
        metrics.gauge(&CLUSTER_MEMBERS, &["gone"]).set(seen(|seen| matches!(seen, Seen::Gone { .. })));
        metrics.gauge(&CLUSTER_MEMBERS, &["left"]).set(seen(|seen| *seen == Seen::Left));
        let reachable = view.regions.values().filter(|region| region.reachable).count();
        metrics.gauge(&CLUSTER_REGIONS, &["yes"]).set(reachable as f64);
        metrics.gauge(&CLUSTER_REGIONS, &["no"]).set((view.regions.len() - reachable) as f64);
        metrics.gauge(&CLUSTER_CONFIGURATIONS, &[]).set(view.configurations().len() as f64);

        let matrix = Matrix::of(&view);
        let alive = |name: &str| view.members.get(name).is_some_and(Member::is_alive);
        let disagree =
            matrix.rows.iter().filter(|(by, _)| alive(by)).flat_map(|(_, cells)| matrix.names.iter().zip(cells.iter().flatten()));
        let disagree = disagree.filter(|(name, cell)| alive(name) && matches!(cell, Cell::Gone | Cell::Unknown)).count();
        metrics.gauge(&CLUSTER_VIEWS_DISAGREE, &[]).set(disagree as f64);

        let links = self.peers.links();
        metrics.gauge(&CLUSTER_LINKS, &["up"]).set(links.len() as f64);
        metrics
            .gauge(&CLUSTER_LINKS, &["down"])
            .set(self.peers.unlinked().iter().filter(|unlinked| unlinked.node.is_some()).count() as f64);
        let offset = links.iter().filter_map(|link| link.offset_micros).map(i64::unsigned_abs).max().unwrap_or_default();
        metrics.gauge(&CLUSTER_CLOCK_OFFSET, &[]).set(offset as f64 / 1e6);

        if let Some(ends) = self.certificate_ends() {
            let seconds = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            metrics.gauge(&CLUSTER_CERT_NOT_AFTER, &[]).set(seconds as f64);
        }
        metrics.counter(&CLUSTER_CERT_RENEWALS, &[]).reach(self.renewals());
        metrics.gauge(&CLUSTER_MEMORY_TROUBLE, &[]).set(if self.memory.trouble().is_some() { 1.0 } else { 0.0 });

        let counts = self.peers.counts();
        for kind in Kind::ALL {
            let name = format!("{kind:?}").to_lowercase();
            for (direction, traffic) in [("in", &counts.received), ("out", &counts.sent)] {
                metrics.counter(&CLUSTER_FRAMES, &[&name, direction]).reach(traffic.frames(kind));
                metrics.counter(&CLUSTER_FRAME_BYTES, &[&name, direction]).reach(traffic.bytes(kind));
            }
        }
        for reason in Reasons::ALL {
            let name = format!("{reason:?}").to_lowercase();
            for (by, refused) in [("here", &counts.refused), ("there", &counts.refused_to_us)] {
                if refused.of(reason) > 0 {
                    metrics.counter(&CLUSTER_REFUSED, &[&name, by]).reach(refused.of(reason));
                }
            }
        }
        let (traffic, refused) = (self.gossip.traffic(), self.gossip.refused());
        for (why, count) in [
            ("unknown_kind", counts.skipped.load(Relaxed)),
            ("overtaken", counts.dropped.load(Relaxed)),
            ("malformed", counts.malformed.load(Relaxed)),
            ("implausible", counts.implausible.load(Relaxed)),
            ("turned_away", counts.turned_away.load(Relaxed)),
            ("unfinished", counts.unfinished.load(Relaxed)),
            ("gossip_full", traffic.dropped),
            ("gossip_foreign", traffic.foreign),
            ("gossip_unreadable", refused.unreadable),
            ("gossip_oversized", refused.oversized),
            ("gossip_forged", refused.forged),
        ] {
            metrics.counter(&CLUSTER_DROPPED, &[why]).reach(count);
        }
    }
}
