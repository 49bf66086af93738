//! Faults on purpose: an actor that panics or stalls because an operator wants to see what happens.
//!
//! A kill takes the way that a bug takes, and a stall really keeps the mailbox waiting. A drill is over with the life that
//! it hit.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Instant,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drill {
    /// Panics before its next message.
    Kill,
    /// Handles nothing until then, or until it is released.
    Stall { until: Option<Instant> },
    /// Ends a stall.
    Release,
}

#[derive(Default)]
pub(super) struct Drills {
    ordered: Mutex<Ordered>,
}

#[derive(Default)]
struct Ordered {
    kill: bool,
    stall: Option<Option<Instant>>,
    /// Orders given, to notice that there is another.
    orders: u64,
    stalled: Option<Waker>,
}

/// A stall that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stall {
    pub(crate) until: Option<Instant>,
    order: u64,
}

impl Drills {
    pub(super) fn order(&self, drill: Drill) {
        let mut ordered = self.locked();
        ordered.orders += 1;
        match drill {
            Drill::Kill => ordered.kill = true,
            Drill::Stall { until } => ordered.stall = Some(until),
            Drill::Release => ordered.stall = None,
        }
        let stalled = ordered.stalled.take();
        drop(ordered);
        if let Some(stalled) = stalled {
            stalled.wake();
        }
    }

    pub(super) fn clear(&self) {
        let mut ordered = self.locked();
        *ordered = Ordered { orders: ordered.orders, ..Ordered::default() };
    }

    pub(super) fn kills(&self) -> bool {
        self.locked().kill
    }

    /// The stall that holds now. A kill ends it.
    pub(super) fn stalls(&self, now: Instant) -> Option<Stall> {
        let mut ordered = self.locked();
        let over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if ordered.kill || ordered.stall.is_some_and(over) {
            ordered.stall = None;
        }
        ordered.stall.map(|until| Stall { until, order: ordered.orders })
    }

    /// Whether there have been other orders since; if not, the waker is woken when there are.
    pub(super) fn changed(&self, stall: Stall, waker: &Waker) -> bool {
        let mut ordered = self.locked();
        let changed = ordered.orders != stall.order;
        if !changed {
            ordered.stalled = Some(waker.clone());
        }
        changed
    }

    fn locked(&self) -> MutexGuard<'_, Ordered> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stall_ends_by_time_by_release_or_by_a_kill() {
        let now = Instant::now();
        let later = now + Duration::from_secs(30);
        let drills = Drills::default();
        let until = |now| drills.stalls(now).map(|stall| stall.until);
        assert_eq!(until(now), None);
        drills.order(Drill::Stall { until: Some(later) });
        assert_eq!(until(now), Some(Some(later)));
        assert_eq!(until(later), None);
        drills.order(Drill::Stall { until: None });
        assert_eq!(until(later), Some(None));
        drills.order(Drill::Release);
        assert_eq!(until(later), None);
        drills.order(Drill::Stall { until: None });
        drills.order(Drill::Kill);
        assert_eq!(until(now), None);
        assert!(drills.kills());
        drills.clear();
        assert!(!drills.kills());
    }

    #[test]
    fn an_order_between_looking_and_waiting_is_noticed() {
        let now = Instant::now();
        let drills = Drills::default();
        drills.order(Drill::Stall { until: None });
        let stall = drills.stalls(now).expect("a stall was ordered");
        assert!(!drills.changed(stall, Waker::noop()));
        drills.order(Drill::Release);
        assert!(drills.changed(stall, Waker::noop()));
    }
}
