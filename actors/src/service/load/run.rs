//! Failures in a row, by the kinds that Envoy's outlier detection tells apart, in one word.

use crate::service::verdict::{Failure, Why};
use config::OutlierPolicy;

/// Four counts of 16 bits that stop at their end. All zero means that the last outcome was good, or that there was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::service) struct Run(pub(super) u64);

/// A count that has reached its threshold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::service) struct Reached {
    pub(in crate::service) why: Why,
    /// All of them were connections that did not come about, so that nothing is lost without the endpoint.
    pub(in crate::service) unreachable: bool,
}

const FIVES: u32 = 0;
const GATEWAY: u32 = 16;
const LOCAL: u32 = 32;
const CONNECT: u32 = 48;

impl Run {
    fn count(self, of: u32) -> u32 {
        u32::from((self.0 >> of) as u16)
    }

    fn grown(self, of: u32) -> Self {
        if self.count(of) == u32::from(u16::MAX) { self } else { Self(self.0 + (1 << of)) }
    }

    fn ended(self, of: u32) -> Self {
        Self(self.0 & !(0xffff << of))
    }

    /// An answer ends what failed on the way; of the answers, only those that speak for a gateway continue its count.
    pub(in crate::service) fn and(self, failure: Failure) -> Self {
        let run = self.grown(FIVES);
        match failure {
            Failure::Status(502..=504) => run.grown(GATEWAY).ended(LOCAL).ended(CONNECT),
            Failure::Status(_) => run.ended(GATEWAY).ended(LOCAL).ended(CONNECT),
            Failure::Connect => run.grown(GATEWAY).grown(LOCAL).grown(CONNECT),
            Failure::Timeout | Failure::Reset => run.grown(GATEWAY).grown(LOCAL).ended(CONNECT),
        }
    }

    /// The most telling count that has reached its threshold.
    pub(in crate::service) fn reaches(self, policy: &OutlierPolicy) -> Option<Reached> {
        let counts = [
            (LOCAL, policy.consecutive_local_origin_failure, Why::ConsecutiveLocalOriginFailure),
            (GATEWAY, policy.consecutive_gateway_failure, Why::ConsecutiveGatewayFailure),
            (FIVES, policy.consecutive_5xx, Why::Consecutive5xx),
        ];
        let (_, threshold, why) = counts.into_iter().find(|(of, threshold, _)| *threshold > 0 && self.count(*of) >= *threshold)?;
        Some(Reached { why, unreachable: self.count(CONNECT) >= threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::breaker::tests::outlier;

    /// `5` is a 500, `g` a 503, `c`, `t` and `r` fail on the way. The answer is what the run has reached.
    fn check(failures: &str, expected: Option<(Why, bool)>) {
        let run = failures.chars().fold(Run::default(), |run, failure| {
            run.and(match failure {
                '5' => Failure::Status(500),
                'g' => Failure::Status(503),
                'c' => Failure::Connect,
                't' => Failure::Timeout,
                _ => Failure::Reset,
            })
        });
        let policy = OutlierPolicy { consecutive_5xx: 5, consecutive_gateway_failure: 4, consecutive_local_origin_failure: 3, ..outlier() };
        assert_eq!(run.reaches(&policy).map(|reached| (reached.why, reached.unreachable)), expected, "{failures}");
    }

    #[test]
    fn each_kind_has_a_count_of_its_own() {
        check("5555", None);
        check("55555", Some((Why::Consecutive5xx, false)));
        check("5g5g5", Some((Why::Consecutive5xx, false)));
        check("ggg", None);
        check("gggg", Some((Why::ConsecutiveGatewayFailure, false)));
        check("ttgt", Some((Why::ConsecutiveGatewayFailure, false)));
        check("trc", Some((Why::ConsecutiveLocalOriginFailure, false)));
        check("ccc", Some((Why::ConsecutiveLocalOriginFailure, true)));
        check("cc5", None);
    }

    #[test]
    fn a_threshold_of_zero_is_off() {
        let policy = OutlierPolicy { consecutive_5xx: 0, consecutive_gateway_failure: 0, consecutive_local_origin_failure: 0, ..outlier() };
        let run = (0..100_000).fold(Run::default(), |run, _| run.and(Failure::Connect));
        assert_eq!(run.reaches(&policy), None);
        assert_eq!(run, Run(u64::MAX), "counts stop at their end");
    }
}
