//! Quantities with their units, as people write them: `250ms`, `64KiB`, `100/s`, `20%`.

use serde::Serialize;
use std::{fmt, time::Duration};

/// A number of bytes. Written with a unit of 1024 (`KiB`, `MiB`, `GiB`) or 1000 (`KB`, `MB`, `GB`), or `B`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// How many per span of time: `100/s`, `5/min`, `1000/h`, `1/10s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many in each `per`. Never zero.
    pub count: u64,
    /// The span they are counted over. Never zero.
    pub per: Duration,
}

impl ByteSize {
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new("a size is a whole number with B, KiB, MiB, GiB, KB, MB or GB, as in `64KiB`");
        let (count, unit) = split_unit(text).ok_or_else(wrong)?;
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        // TOML's own integers end at 2^63, and so does every length that HTTP libraries agree on.
        count
            .checked_mul(factor)
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .map(Self)
            .ok_or_else(|| UnitError::new("a size is less than 8 EiB"))
    }
}

impl Rate {
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.per.as_secs_f64()
    }

    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new("a rate is a count per s, min, h, d or a duration, as in `100/s`, `5/min` or `1/10s`");
        let (count, span) = text.split_once('/').ok_or_else(wrong)?;
        let count = digits(count).ok_or_else(wrong)?;
        let per = match span {
            "s" => Duration::from_secs(1),
            "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            "d" => Duration::from_secs(86_400),
            span => parse_duration(span).map_err(|_| wrong())?,
        };
        match (count, per.is_zero()) {
            (0, _) => Err(UnitError::new("a rate lets at least one request pass, as in `1/min`")),
            (_, true) => Err(UnitError::new("a rate counts over some time, as in `1/s`")),
            // The limiter computes in nanoseconds between two grants.
            (count, _) if u128::from(count) > per.as_nanos() => Err(UnitError::new("a rate is at most one request a nanosecond")),
            (count, _) => Ok(Self { count, per }),
        }
    }
}

impl Ratio {
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new("a share is a percentage between 0% and 100%, as in `20%` or `0.5%`");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(wrong());
        }
        let percent: f64 = number.parse().map_err(|_| wrong())?;
        if percent > 100.0 { Err(wrong()) } else { Ok(Self(percent / 100.0)) }
    }
}

/// Reads a duration, written as a whole number with `ms`, `s`, `m`, `h` or `d`. The longest is a year, so that adding
/// one to an instant can never overflow.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::new("a duration is a whole number with ms, s, m, h or d, as in `250ms` or `30s`");
    let (count, unit) = split_unit(text).ok_or_else(wrong)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    const YEAR: u64 = 366 * 86_400_000;
    count
        .checked_mul(millis)
        .filter(|millis| *millis <= YEAR)
        .map(Duration::from_millis)
        .ok_or_else(|| UnitError::new("a duration is at most 366d"))
}

/// `64KiB` is 64 and `KiB`; a single space between them is allowed.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let count = digits(&text[..unit])?;
    let rest = &text[unit..];
    Some((count, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// Only digits: `u64::from_str` would take a plus sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A share between 0 and 1, written `20%`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Ratio(pub f64);

/// Why a written quantity was not understood: what would have been right, in one phrase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitError(pub String);

impl UnitError {
    fn new(right: &str) -> Self {
        Self(right.to_string())
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_millis() {
            1_000 => write!(f, "{}/s", self.count),
            60_000 => write!(f, "{}/min", self.count),
            3_600_000 => write!(f, "{}/h", self.count),
            86_400_000 => write!(f, "{}/d", self.count),
            _ => write!(f, "{}/{}", self.count, written(self.per)),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A percentage is exact to a millionth; what lies behind it is noise of the binary fraction.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

/// Writes a duration the way the file would: `250ms`, `30s`, `5m`.
pub fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_string(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Ratio {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `Ok` holds what the quantity is written back as.
    fn check<T: fmt::Display>(parse: fn(&str) -> Result<T, UnitError>, cases: &[(&str, Option<&str>)]) {
        for (text, expected) in cases {
            let read = parse(text).ok().map(|value| value.to_string());
            assert_eq!(read.as_deref(), *expected, "{text}");
        }
    }

    struct Written(Duration);

    impl fmt::Display for Written {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&written(self.0))
        }
    }

    #[test]
    fn durations_need_a_unit_and_a_whole_number() {
        check(
            |text| parse_duration(text).map(Written),
            &[
                ("250ms", Some("250ms")),
                ("1000ms", Some("1s")),
                ("30s", Some("30s")),
                ("90m", Some("90m")),
                ("2 h", Some("2h")),
                ("1d", Some("24h")),
                ("0s", Some("0s")),
                ("366d", Some("8784h")),
                ("367d", None),
                ("30", None),
                ("", None),
                ("s", None),
                ("1.5s", None),
                ("-1s", None),
                ("+1s", None),
                ("1s ", None),
                ("1 min", None),
                ("99999999999999999999s", None),
            ],
        );
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        check(
            ByteSize::parse,
            &[
                ("64KiB", Some("64KiB")),
                ("1024KiB", Some("1MiB")),
                ("1KB", Some("1000B")),
                ("3GB", Some("3000000000B")),
                ("500B", Some("500B")),
                ("0B", Some("0B")),
                ("64", None),
                ("64kb", None),
                ("64K", None),
                ("9000000000GiB", None),
            ],
        );
    }

    #[test]
    fn rates_count_something_over_some_time() {
        check(
            Rate::parse,
            &[
                ("100/s", Some("100/s")),
                ("5/min", Some("5/min")),
                ("5/1m", Some("5/min")),
                ("1/10s", Some("1/10s")),
                ("1000/h", Some("1000/h")),
                ("7/d", Some("7/d")),
                ("0/s", None),
                ("1/0s", None),
                ("100", None),
                ("/s", None),
                ("100/", None),
                ("100/m", None),
                ("1000000001/s", None),
            ],
        );
    }

    #[test]
    fn shares_stay_between_nothing_and_all() {
        check(
            Ratio::parse,
            &[
                ("20%", Some("20%")),
                ("7%", Some("7%")),
                ("0.5%", Some("0.5%")),
                ("0%", Some("0%")),
                ("100%", Some("100%")),
                ("101%", None),
                ("20", None),
                ("%", None),
                ("-1%", None),
                ("1e1%", None),
            ],
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0u64..366 * 86_400_000, bytes in 0u64..1 << 60, count in 1u64..1_000_000, per in 1u64..1_000_000, share in 0u32..=1_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&written(duration)), Ok(duration));

            let size = ByteSize(bytes);
            prop_assert_eq!(ByteSize::parse(&size.to_string()), Ok(size));

            let rate = Rate { count, per: Duration::from_millis(per) };
            prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));

            let ratio = Ratio(f64::from(share) / 1e6);
            prop_assert_eq!(Ratio::parse(&ratio.to_string()).map(|read| read.to_string()), Ok(ratio.to_string()));
        }

        #[test]
        fn nothing_that_is_written_panics(text in ".{0,12}") {
            let _ = (parse_duration(&text), ByteSize::parse(&text), Rate::parse(&text), Ratio::parse(&text));
        }
    }
}
