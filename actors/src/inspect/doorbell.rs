//! Tells an actor that there is something to do, at most once until it has looked.
//!
//! The mailbox of the library below has no bound, so nothing goes through it but this: however much is sent, one ring is
//! under way. Whoever rings while nobody is home need not come back: an actor looks once when it starts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Ring = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
pub(crate) struct Doorbell {
    wire: Mutex<Wire>,
}

#[derive(Default)]
struct Wire {
    rung: bool,
    ring: Option<Ring>,
}

impl Doorbell {
    pub(crate) fn ring(&self) {
        let mut wire = self.locked();
        let Some(ring) = wire.ring.clone().filter(|_| !wire.rung) else { return };
        wire.rung = true;
        // What it rings may take locks of its own.
        drop(wire);
        ring();
    }

    /// Comes before looking, so that whatever arrives while one looks rings again.
    pub(crate) fn answer(&self) {
        self.locked().rung = false;
    }

    pub(crate) fn connect(&self, ring: Ring) {
        *self.locked() = Wire { rung: false, ring: Some(ring) };
    }

    pub(crate) fn disconnect(&self) {
        *self.locked() = Wire::default();
    }

    fn locked(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn it_rings_once_until_it_is_answered() {
        let bell = Doorbell::default();
        let rings = Arc::new(AtomicU32::new(0));
        let check = |expected: u32| assert_eq!(rings.load(Relaxed), expected);
        bell.ring();
        let counted = Arc::clone(&rings);
        bell.connect(Arc::new(move || {
            counted.fetch_add(1, Relaxed);
        }));
        bell.ring();
        bell.ring();
        check(1);
        bell.answer();
        bell.ring();
        check(2);
        bell.answer();
        bell.disconnect();
        bell.ring();
        check(2);
    }
}
