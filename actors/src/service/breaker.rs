//! What the endpoints of one service share: how much they may have in flight, what takes one of them out, and how many may be
//! out at once.
//!
//! A [`Breaker`] belongs to a service and outlives reloads; every [`Load`] of the service holds it. All of it is read and written by
//! requests alone, with the time passed in, so that it works while no actor does. The bound of those that are out is a count of places:
//! an endpoint goes out by taking one and comes back by giving it, in the same step in which its standing changes.
//!
//! There are two ways of being out. An ejected endpoint has the others preferred to it; if none is left, it is asked. An endpoint
//! whose breaker is open, which only happens where `error_ratio` asks for it, is not asked at all.

use super::{
    balancer::Tried,
    load::{InFlight, Load, Reached, Run},
};
use arc_swap::ArcSwap;
use config::{BreakerPolicy, OutlierPolicy, Ratio};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// An ejection is forgotten after as long without another one where there is no policy to say so.
const FORGET: Duration = Duration::from_secs(10);

/// One service's breaker.
#[derive(Debug)]
pub struct Breaker {
    rules: ArcSwap<Rules>,
    // What almost every request reads, of the rules.
    endpoint_max: AtomicU32,
    /// In milliseconds; zero if no share of errors opens it.
    window: AtomicU32,
    counts: Counts,
}

/// What requests write, apart from what they read.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts {
    in_flight: AtomicU32,
    in_flight_max: AtomicU32,
    waiting: AtomicU32,
    waiting_max: AtomicU32,
    out: AtomicU32,
    out_max: AtomicU32,
}

#[derive(Debug)]
struct Rules {
    breaker: BreakerPolicy,
    outlier: Option<OutlierPolicy>,
}

/// Why a request cannot have an endpoint, or the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refused {
    /// The endpoint is half-open, and as many as may are trying it.
    HalfOpen,
    /// The endpoint has all the requests in flight that it may have.
    EndpointFull,
    /// The endpoint's breaker is open.
    Open,
    /// The service has all the requests in flight that it may have.
    ServiceFull,
    /// As many requests of the service wait for connections as may.
    WaitingFull,
    /// The service has no endpoint.
    Nobody,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HalfOpen => "the endpoint is being tried",
            Self::EndpointFull => "the endpoint has all the requests that it may have",
            Self::Open => "the endpoint's breaker is open",
            Self::ServiceFull => "the service has all the requests that it may have",
            Self::WaitingFull => "too many requests wait for a connection",
            Self::Nobody => "the service has no endpoint",
        })
    }
}

/// Whether going out may exceed the bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    Share,
    None,
}

/// The right to be one of a bounded number of requests, given up when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit(Option<(Arc<Breaker>, Room)>);

#[derive(Clone, Copy, Debug)]
enum Room {
    InFlight,
    Waiting,
}

/// Finds an endpoint that takes the request: asks `pick` for one, and for others while those refuse. `tried` are endpoints that the
/// request has been sent to before.
///
/// When all that could be picked have refused, a half-open one is asked beyond its number, since nobody is better; a full or open one
/// is not, and the refusal that weighs most is returned.
pub fn admit<'a>(
    tried: Tried,
    now: Instant,
    mut pick: impl FnMut(Tried) -> Option<usize>,
    load: impl Fn(usize) -> &'a Arc<Load>,
) -> Result<(usize, InFlight), Refused> {
    let (mut passed, mut refusers) = (tried, Tried::default());
    let mut refused: Option<Refused> = None;
    loop {
        let Some(endpoint) = pick(passed) else { return Err(refused.unwrap_or(Refused::Nobody)) };
        if refusers.contains(endpoint) {
            return match refused {
                None | Some(Refused::HalfOpen) => Ok((endpoint, load(endpoint).begin(now))),
                Some(refused) => Err(refused),
            };
        }
        match load(endpoint).admit(now) {
            Ok(in_flight) => return Ok((endpoint, in_flight)),
            Err(why) => {
                passed = passed.and(endpoint);
                refusers = refusers.and(endpoint);
                refused = refused.max(Some(why));
            }
        }
    }
}

impl Breaker {
    pub fn new(breaker: &BreakerPolicy, outlier: Option<&OutlierPolicy>) -> Self {
        let made = Self::with(Rules { breaker: breaker.clone(), outlier: outlier.cloned() });
        made.renew(breaker, outlier);
        made
    }

    /// One that bounds nothing and takes nobody out.
    pub fn idle() -> Self {
        let unbounded =
            BreakerPolicy { max_requests: None, max_requests_per_endpoint: None, max_waiting: u32::MAX, errors: None, half_open: 1 };
        Self::new(&unbounded, None)
    }

    fn with(rules: Rules) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            endpoint_max: AtomicU32::new(u32::MAX),
            window: AtomicU32::new(0),
            counts: Counts::default(),
        }
    }

    /// Follows new policies from now on. Who is out stays out for as long as was decided; the bound follows with the next
    /// [`Breaker::set_endpoints`].
    pub fn renew(&self, breaker: &BreakerPolicy, outlier: Option<&OutlierPolicy>) {
        self.rules.store(Arc::new(Rules { breaker: breaker.clone(), outlier: outlier.cloned() }));
        self.endpoint_max.store(breaker.max_requests_per_endpoint.unwrap_or(u32::MAX), Relaxed);
        self.window.store(breaker.errors.as_ref().map_or(0, |errors| millis(errors.window)), Relaxed);
        self.counts.in_flight_max.store(breaker.max_requests.unwrap_or(u32::MAX), Relaxed);
        self.counts.waiting_max.store(breaker.max_waiting, Relaxed);
    }

    /// Says how many endpoints the service has, of which a share of `panic` must be left for verdicts to count at all. Requests
    /// alone put no more out than `max_ejection_percent`, than leaves `min_healthy`, and than leaves that share: past it, putting
    /// one more out would bring all of them back.
    pub fn set_endpoints(&self, endpoints: usize, panic: Ratio) {
        let rules = self.rules.load();
        let out_max = rules.outlier.as_ref().map_or(0, |policy| {
            // A share of a whole number is as exact as its percentage is written; what lies behind is noise of the binary fraction.
            const NOISE: f64 = 1e-6;
            let share = (endpoints as f64 * policy.max_ejection_percent.0 + NOISE).floor() as usize;
            let kept = (endpoints as f64 * panic.0 - NOISE).ceil() as usize;
            share.min(endpoints.saturating_sub(kept.max(policy.min_healthy as usize)))
        });
        self.counts.out_max.store(u32::try_from(out_max).unwrap_or(u32::MAX), Relaxed);
    }

    /// Counts a request of the service in until the permit is dropped. Where there is no bound, nothing is counted.
    pub fn enter(self: &Arc<Self>) -> Result<Permit, Refused> {
        self.permit(Room::InFlight).ok_or(Refused::ServiceFull)
    }

    /// Counts a request in that is about to wait for a connection.
    pub fn wait(self: &Arc<Self>) -> Result<Permit, Refused> {
        self.permit(Room::Waiting).ok_or(Refused::WaitingFull)
    }

    fn permit(self: &Arc<Self>, room: Room) -> Option<Permit> {
        let (count, most) = self.counts.of(room);
        let most = most.load(Relaxed);
        if most == u32::MAX {
            return Some(Permit(None));
        }
        count.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1)).ok()?;
        Some(Permit(Some((Arc::clone(self), room))))
    }

    /// How many endpoints of those that stay are out, for whatever reason.
    pub fn out(&self) -> u32 {
        self.counts.out.load(Relaxed)
    }

    /// How many of them requests alone may put out.
    pub fn out_max(&self) -> u32 {
        self.counts.out_max.load(Relaxed)
    }

    /// Requests in flight, where they are bounded.
    pub fn in_flight(&self) -> u32 {
        self.counts.in_flight.load(Relaxed)
    }

    /// Requests that wait for a connection, where they are bounded.
    pub fn waiting(&self) -> u32 {
        self.counts.waiting.load(Relaxed)
    }

    pub(super) fn take_place(&self, bound: Bound) -> bool {
        let most = if bound == Bound::Share { self.out_max() } else { u32::MAX };
        self.counts.out.fetch_update(Relaxed, Relaxed, |out| (out < most).then_some(out + 1)).is_ok()
    }

    pub(super) fn give_place(&self) {
        self.counts.out.fetch_sub(1, Relaxed);
    }

    pub(super) fn endpoint_max(&self) -> u32 {
        self.endpoint_max.load(Relaxed)
    }

    pub(super) fn window(&self) -> u32 {
        self.window.load(Relaxed)
    }

    pub(super) fn half_open(&self) -> u32 {
        self.rules.load().breaker.half_open
    }

    /// In milliseconds.
    pub(super) fn forget(&self) -> u32 {
        millis(self.rules.load().outlier.as_ref().map_or(FORGET, |policy| policy.interval))
    }

    pub(super) fn reached(&self, run: Run) -> Option<Reached> {
        run.reaches(self.rules.load().outlier.as_ref()?)
    }

    pub(super) fn is_too_many(&self, failed: u32, total: u32) -> bool {
        let rules = self.rules.load();
        let Some(errors) = &rules.breaker.errors else { return false };
        total >= errors.min_requests && f64::from(failed) >= f64::from(total) * errors.ratio.0
    }

    /// How long an endpoint is out for the `times`th time in a row, in milliseconds: an open breaker doubles, an ejection adds up, as in
    /// Envoy, and `chance` makes it up to the jitter longer.
    pub(super) fn length(&self, open: bool, times: u32, chance: u64) -> u32 {
        let rules = self.rules.load();
        let (length, jitter) = match (&rules.breaker.errors, &rules.outlier) {
            (Some(errors), _) if open => {
                let doubled = 1u32.checked_shl(times.saturating_sub(1)).and_then(|factor| errors.open.checked_mul(factor));
                (doubled.unwrap_or(errors.open_max).min(errors.open_max), Ratio(0.1))
            }
            (_, Some(policy)) => {
                (policy.base_ejection_time.saturating_mul(times).min(policy.max_ejection_time), policy.max_ejection_time_jitter)
            }
            // The policy that put it out is gone by a reload: it is tried at once.
            _ => return 0,
        };
        // The upper 53 bits are as much as a fraction holds.
        let fraction = (chance >> 11) as f64 / (1u64 << 53) as f64;
        millis(length.mul_f64(1.0 + jitter.0 * fraction))
    }
}

impl Counts {
    fn of(&self, room: Room) -> (&AtomicU32, &AtomicU32) {
        match room {
            Room::InFlight => (&self.in_flight, &self.in_flight_max),
            Room::Waiting => (&self.waiting, &self.waiting_max),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((breaker, room)) = &self.0 {
            breaker.counts.of(*room).0.fetch_sub(1, Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests;
