//! Where a request goes: which endpoint of a service, and whether it may be tried at another one.
//!
//! What is known of an endpoint is published in its [`Load`], which outlives reloads, and what its service's endpoints share in a
//! [`Breaker`]; a [`Balancer`] belongs to one revision of the service and picks among loads without a lock. Requests themselves
//! take an endpoint out that fails them; [`Health`] and [`Outlier`] add what can only be seen from beside the path.

mod actor;
mod backoff;
mod balancer;
mod breaker;
mod budget;
pub mod discovery;
mod drain;
mod health;
mod load;
pub mod names;
mod outlier;
mod verdict;
mod watch;

pub use self::{
    actor::{Order, Outside, child},
    backoff::backoff,
    balancer::{Balancer, Capacity, LEVELS_MAX, Levels, Rank, Shares, Target, Tried},
    breaker::{Breaker, Permit, Refused, admit},
    budget::RetryBudget,
    drain::{Drain, Drained, NotDrained},
    health::{Health, Probe, ProbeError, Reply, Turn},
    load::{InFlight, Load, Tally},
    outlier::Outlier,
    verdict::{Failure, Judged, LastError, Verdict, Verdicts, Why},
    watch::{Counted, Prober, Resolved, Roster, Watch, Watched},
};

#[cfg(test)]
pub(crate) use self::load::tests::epoch;
