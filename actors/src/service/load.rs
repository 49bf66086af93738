//! What is known of one endpoint by what happened to requests: published in atomics, read by every pick.
//!
//! Its latency is a peak-sensitive moving average, as Finagle and linkerd have it: a sample above the average replaces it at
//! once, one below pulls it down with a time constant of ten seconds, and silence lets it fall the same way, so
//! that an endpoint that was slow is asked again after a while. A failure counts as a sample of at least twice the
//! average: one alone is forgiven within seconds, a run of them soon costs more than any answer.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

/// In this time the weight of the past falls to 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as at least, and at most.
const FAILURE_MIN: Duration = Duration::from_millis(10);
const FAILURE_MAX: Duration = Duration::from_secs(10);

/// What an endpoint is believed to need while its first answer is awaited: others are preferred meanwhile.
const UNKNOWN: Duration = Duration::from_secs(1);

/// One endpoint's load. It has a cache line to itself, for every request to the endpoint writes it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Load {
    latency: AtomicU64,
    picks: AtomicU64,
    in_flight: AtomicU32,
    eligible: AtomicBool,
    epoch: Instant,
}

/// The average in nanoseconds, and when it was last told something, in milliseconds since the epoch. They change
/// together, in one word. After 49 days of silence the stamp comes round, and the average may be believed once more.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Average {
    nanos: f32,
    stamp: u32,
}

impl Average {
    fn unpack(word: u64) -> Self {
        Self { nanos: f32::from_bits((word >> 32) as u32), stamp: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.nanos.to_bits()) << 32 | u64::from(self.stamp)
    }

    /// What is left of the past at `stamp`. A clock that lags behind sees all of it.
    fn weight(self, stamp: u32) -> f32 {
        match stamp.wrapping_sub(self.stamp).cast_signed() {
            ..=0 => 1.0,
            passed => (-(passed as f32) / DECAY.as_millis() as f32).exp(),
        }
    }

    fn at(self, stamp: u32) -> f32 {
        self.nanos * self.weight(stamp)
    }

    fn observe(self, sample: f32, stamp: u32) -> Self {
        let weight = self.weight(stamp);
        let nanos = if sample > self.nanos { sample } else { self.nanos * weight + sample * (1.0 - weight) };
        let stamp = if stamp.wrapping_sub(self.stamp).cast_signed() > 0 { stamp } else { self.stamp };
        Self { nanos, stamp }
    }
}

impl Load {
    /// A load that nothing is known of. `epoch` lies before every instant it will be told of.
    pub fn new(epoch: Instant) -> Self {
        Self { latency: AtomicU64::new(0), picks: AtomicU64::new(0), in_flight: AtomicU32::new(0), eligible: AtomicBool::new(true), epoch }
    }

    /// Counts a request in until what it returns is dropped.
    pub fn begin(self: &Arc<Self>, now: Instant) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.picks.fetch_add(1, Relaxed);
        InFlight { load: Arc::clone(self), began: now }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests ever sent here, retries included.
    pub fn picks(&self) -> u64 {
        self.picks.load(Relaxed)
    }

    /// The average as it stands now; zero if nothing was ever answered.
    pub fn latency(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.average().at(self.stamp(now)) as u64)
    }

    /// Whether balancers send requests here while there is somebody else who is eligible.
    pub fn eligible(&self) -> bool {
        self.eligible.load(Acquire)
    }

    /// Publishes the verdict of whoever watches the endpoint's health.
    pub fn set_eligible(&self, eligible: bool) {
        self.eligible.store(eligible, Release);
    }

    /// What one more request costs here: the latency, as many times over as there would be requests for each `share` of
    /// the work. An endpoint that has not answered yet is tried by one request at once and then by as few as possible.
    pub(super) fn cost(&self, share: f64, now: Instant) -> f64 {
        let (in_flight, average) = (f64::from(self.in_flight()), self.average());
        let nanos = match average.nanos {
            0.0 if in_flight == 0.0 => 0.0,
            0.0 => UNKNOWN.as_nanos() as f64,
            _ => f64::from(average.at(self.stamp(now))),
        };
        nanos * (in_flight / share + 1.0)
    }

    fn observe(&self, sample: impl Fn(Average) -> f32, now: Instant) {
        let stamp = self.stamp(now);
        let update = |word| {
            let average = Average::unpack(word);
            let next = average.observe(sample(average), stamp);
            (next != average).then_some(next.pack())
        };
        // It fails only if there is nothing to change.
        let _ = self.latency.fetch_update(Relaxed, Relaxed, update);
    }

    fn average(&self) -> Average {
        Average::unpack(self.latency.load(Relaxed))
    }

    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }
}

/// A request on its way to an endpoint. Dropping it ends it, whatever came of it.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    began: Instant,
}

impl InFlight {
    /// The head of the answer arrived. The request stays in flight while the body does.
    pub fn answered(&self, now: Instant) {
        let took = now.saturating_duration_since(self.began).as_nanos() as f32;
        // One nanosecond at least: zero means that nothing is known.
        self.load.observe(|_| took.max(1.0), now);
    }

    /// It could not be sent, was not answered in time, or the endpoint said that it failed.
    pub fn failed(&self, now: Instant) {
        let took = now.saturating_duration_since(self.began).max(FAILURE_MIN).as_nanos() as f32;
        let stamp = self.load.stamp(now);
        self.load.observe(|average| took.max(2.0 * average.at(stamp)).min(took.max(FAILURE_MAX.as_nanos() as f32)), now);
    }

    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn epoch() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
        Instant::now()
    }

    /// Each event is `at latency` in milliseconds, with `!` behind a failure; each answer the average then, in milliseconds.
    fn check(events: &str, expected: &str) {
        let epoch = epoch();
        let load = Arc::new(Load::new(epoch));
        let averages: Vec<String> = events
            .split(", ")
            .map(|event| {
                let (at, latency) = event.split_once(' ').expect("an event is two numbers");
                let at = epoch + Duration::from_millis(1_000_000 + at.parse::<u64>().expect("milliseconds"));
                let failed = latency.ends_with('!');
                let latency = latency.trim_end_matches('!');
                if latency != "-" {
                    let flight = load.begin(at - Duration::from_millis(latency.parse().expect("milliseconds")));
                    if failed { flight.failed(at) } else { flight.answered(at) }
                }
                load.latency(at).as_secs_f64().mul_add(1_000.0, 0.5).floor().to_string()
            })
            .collect();
        assert_eq!(averages.join(" "), expected, "{events}");
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn a_worse_answer_counts_at_once_and_better_ones_slowly() {
        check("0 10, 0 100, 0 10, 1000 10, 11000 10, 60000 10", "10 100 100 91 40 10");
    }

    #[test]
    fn silence_lets_the_average_fall() {
        check("0 -, 0 100, 10000 -, 30000 -, 90000 -", "0 100 37 5 0");
    }

    #[test]
    fn a_failure_costs_twice_the_average_and_a_run_of_them_ever_more() {
        check("0 20, 0 0!, 0 1!, 0 0!", "20 40 80 160");
        check("0 1, 0 0!, 0 0!, 60000 1", "1 10 20 1");
        check("0 3000!, 0 0!, 0 0!, 0 30000!, 0 0!", "3000 6000 10000 30000 30000");
    }

    #[test]
    fn a_clock_that_lags_does_not_turn_the_average_back() {
        check("5000 100, 0 50, 5000 -", "100 100 100");
    }

    #[test]
    fn a_request_is_in_flight_until_it_is_dropped() {
        let now = epoch();
        let load = Arc::new(Load::new(now));
        let flights = [load.begin(now), load.begin(now)];
        flights[0].answered(now + Duration::from_millis(5));
        assert_eq!((load.in_flight(), load.picks()), (2, 2));
        drop(flights);
        assert_eq!((load.in_flight(), load.picks()), (0, 2));
    }

    #[test]
    fn an_endpoint_that_has_not_answered_is_tried_by_one_request() {
        let now = epoch();
        let load = Arc::new(Load::new(now));
        assert_eq!(load.cost(1.0, now), 0.0);
        let _flight = load.begin(now);
        assert_eq!(load.cost(1.0, now), 2e9);
        assert_eq!(load.cost(2.0, now), 1.5e9);
    }

    #[test]
    fn a_load_has_a_cache_line_to_itself() {
        assert_eq!((size_of::<Load>(), align_of::<Load>()), (64, 64));
    }
}
