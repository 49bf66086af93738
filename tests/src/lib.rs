//! What the tests share: whole nodes on loopback, endpoints that can misbehave, and callers that are not shoal.
