//! Where a request goes: which endpoint of a service, and whether it may be tried at another one.
//!
//! What is known of an endpoint is published in its [`Load`], which outlives reloads; a [`Balancer`] belongs to one revision of
//! the service and picks among loads without a lock. Whether an endpoint is healthy is decided elsewhere and only read here.

mod backoff;
mod balancer;
mod budget;
mod load;

pub use self::{
    backoff::backoff,
    balancer::{Balancer, Target, Tried},
    budget::RetryBudget,
    load::{InFlight, Load},
};
