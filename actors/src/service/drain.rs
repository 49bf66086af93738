//! Taking one endpoint out of service by hand, and back.
//!
//! The wish stands with the endpoint's [`Load`](super::Load), where picks read it: nobody has to be awake for it, and it stays over
//! reloads and over every life of the service's actor, until somebody takes it back or the endpoint has left its service.
//! An endpoint that drains comes after all others, so that draining the last one that is well would send its requests to those that
//! are not; that is refused unless it is insisted on.

use super::watch::{Roster, Watch, Watched};
use std::time::Instant;

/// What an operator wants of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drain {
    /// It is to get nothing new. `force` insists on it where nobody else is well.
    Begin { force: bool },
    /// It is to get requests again, few at first.
    End,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Whether it was not so already.
    pub changed: bool,
    /// Requests that the endpoint has still to answer.
    pub in_flight: u32,
}

/// Why it was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotDrained {
    /// The service has no endpoint of that name.
    Unknown,
    /// No other endpoint is well.
    Last,
    /// It is the configuration that takes the endpoint out of service.
    Configured,
}

impl Watch {
    /// Carries out an operator's wish. Whoever watches should be told to look.
    pub fn drain(&self, endpoint: &str, wish: Drain, now: Instant) -> Result<Drained, NotDrained> {
        let _exchange = self.exchange();
        let roster = self.roster();
        let watched = roster.endpoints.iter().find(|watched| *watched.endpoint == *endpoint).ok_or(NotDrained::Unknown)?;
        let before = watched.load.is_draining();
        match wish {
            Drain::Begin { force: false } if !watched.is_draining() && !roster.is_without(watched, now) => return Err(NotDrained::Last),
            Drain::End if watched.drain => return Err(NotDrained::Configured),
            Drain::Begin { .. } | Drain::End => {}
        }
        let draining = wish != Drain::End;
        watched.load.set_draining(draining, now);
        self.apply(&roster);
        Ok(Drained { changed: before != draining, in_flight: watched.load.in_flight() })
    }
}

impl Roster {
    /// Whether requests have somewhere to go without this endpoint: to another that has weight, stays, and is well.
    fn is_without(&self, endpoint: &Watched, now: Instant) -> bool {
        self.asked().any(|other| other.endpoint != endpoint.endpoint && !other.is_draining() && other.load.eligible(now))
    }
}
