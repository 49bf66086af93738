//! The right to have one more connection to an endpoint, and how all connections to it can be ended.

use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
};
use tokio::sync::Notify;

/// Shared with every permit, so that a connection may outlive its upstream.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) open: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) freed: Notify,
    /// Of every connection that is open, and of some that are not any more.
    cuts: Mutex<Vec<Weak<Cut>>>,
}

/// Held by a connection for as long as it is open.
pub(crate) struct Permit {
    counts: Arc<Counts>,
    cut: Arc<Cut>,
}

/// Tells one connection, whoever drives it, that it has to end.
#[derive(Default)]
struct Cut {
    made: AtomicBool,
    waker: AtomicWaker,
}

impl Counts {
    /// The right to a connection, if there are fewer than `most`.
    pub(super) fn permit(self: &Arc<Self>, most: usize) -> Option<Permit> {
        self.open.fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1)).ok()?;
        let cut = Arc::new(Cut::default());
        let mut cuts = self.cuts();
        // Those of closed connections are let go of now and then, which is cheaper than looking for each.
        if cuts.len() > 2 * self.open.load(Relaxed) {
            cuts.retain(|cut| cut.strong_count() > 0);
        }
        cuts.push(Arc::downgrade(&cut));
        drop(cuts);
        Some(Permit { counts: self.clone(), cut })
    }

    /// Ends all connections, whatever they carry.
    pub(super) fn cut_all(&self) {
        let cuts = std::mem::take(&mut *self.cuts());
        for cut in cuts.iter().filter_map(Weak::upgrade) {
            cut.made.store(true, Release);
            cut.waker.wake();
        }
    }

    fn cuts(&self) -> MutexGuard<'_, Vec<Weak<Cut>>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Ready once the connection has to end. Whoever drives the connection asks before it waits for anything else.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.waker.register(cx.waker());
        if self.cut.made.load(Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Nobody drives the connection for the moment; whoever did may be forgotten.
    pub(super) fn rest(&self) {
        drop(self.cut.waker.take());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Relaxed);
        if self.counts.waiting.load(Relaxed) > 0 {
            self.counts.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn all_that_are_open_are_cut_and_none_that_comes_later() {
        let counts = Arc::new(Counts::default());
        let mut cx = Context::from_waker(Waker::noop());
        let (first, second) = (counts.permit(2).expect("room"), counts.permit(2).expect("room"));
        assert!(counts.permit(2).is_none());
        drop(second);
        assert!(first.poll_cut(&mut cx).is_pending());
        counts.cut_all();
        assert!(first.poll_cut(&mut cx).is_ready());
        assert!(counts.permit(2).expect("room").poll_cut(&mut cx).is_pending());
    }

    #[test]
    fn what_is_remembered_of_connections_is_bounded_by_those_that_are_open() {
        let counts = Arc::new(Counts::default());
        let _open: Vec<_> = (0..10).map(|_| counts.permit(20).expect("room")).collect();
        for _ in 0..1_000 {
            drop(counts.permit(20));
        }
        assert!(counts.cuts().len() <= 23, "{}", counts.cuts().len());
    }
}
