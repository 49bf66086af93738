//! This node among others: what it shows them, whom it believes, and how it comes by the certificate for that.

pub mod authority;
pub mod enrol;
#[doc(hidden)]
pub mod fuzzing;
pub mod means;
pub(crate) mod part;
pub mod tls;

#[cfg(test)]
mod stage;
