//! An explanation for a person: one line for each reason, the verdict last.

use super::{Chosen, ChosenBy, Explanation, How, LeftOut, LimitAnswer, Limited, Verdict};
use std::fmt;

/// A column is not widened for one long cell.
const WIDTH_MAX: usize = 44;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::default();
        if let Some(route) = &self.route {
            let captures: Vec<_> = route.captures.iter().map(|(name, value)| format!("{name}={value}")).collect();
            table.row(["route", &route.id, &route.place, &route.matcher, &captures.join(" ")]);
        } else if self.understood.is_some() && self.verdict != Verdict::Health {
            table.row(["route", "-", "", "", ""]);
        }
        for other in &self.others {
            let how = match other.how {
                How::Over => "  over",
                How::Not => "  not",
            };
            table.row([how, &other.id, &other.place, &other.matcher, &other.reason]);
        }
        if self.others_left_out > 0 {
            table.row(["", &format!("and {} more", self.others_left_out), "", "", ""]);
        }
        self.limits.iter().for_each(|limit| limit.row(&mut table));
        if let Some(service) = &self.service {
            service.rows(&mut table);
        }
        table.write(f)?;
        let Self { config, node, elapsed_us, .. } = self;
        let by = match &self.understood {
            Some(understood) => format!("from {} on `{}`", understood.client_ip, self.listener),
            None => format!("on `{}`", self.listener),
        };
        writeln!(f, "{:<LABEL$}{}", "verdict", self.verdict)?;
        writeln!(f, "{:<LABEL$}{by} · config {config} · decided on {node} in {elapsed_us} µs", "")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("would forward"),
            Self::Respond { status } => write!(f, "would respond {status}"),
            Self::Redirect { status, location } => write!(f, "would redirect {status} to {location}"),
            Self::Health => f.write_str("would answer for the node's own health"),
            Self::Reject { status, code, detail, retry_after_s } => {
                write!(f, "would reject {status} {code}: {detail}")?;
                retry_after_s.map_or(Ok(()), |seconds| write!(f, " (Retry-After: {seconds})"))?;
                write!(f, ".  shoal error {code}")
            }
        }
    }
}

impl Limited {
    fn row(&self, table: &mut Table) {
        let answer = match self.answer {
            LimitAnswer::Grant => "grant",
            LimitAnswer::Refusal => "refusal",
            LimitAnswer::ShadowRefusal => "refusal in shadow mode",
            LimitAnswer::Skipped => "skipped: no key",
            LimitAnswer::Missing => "refusal: no key",
            LimitAnswer::NotAsked => "not asked",
        };
        let mut left = self.remaining.map_or(String::new(), |left| format!("{left} of {} left on this {}", self.burst, self.basis));
        if let Some(seconds) = self.retry_after_s {
            left += &format!(", again in {seconds} s");
        }
        let key: Vec<_> = self.key.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-"))).collect();
        table.row(["limit", &self.name, answer, &left, &format!("{} per {}", self.rate, key.join(" "))]);
    }
}

impl Chosen {
    fn rows(&self, table: &mut Table) {
        let endpoint = self.endpoint.as_deref().unwrap_or("no endpoint");
        let of = match self.endpoints {
            1 => "the only endpoint".to_string(),
            all => format!("1 of {all} endpoints, {}", self.balance),
        };
        let shares: Vec<_> = self.split.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        let by = match self.by {
            ChosenBy::Only => String::new(),
            ChosenBy::Sticky => format!("sticky among {}", shares.join(", ")),
            ChosenBy::Chance => format!("by chance among {}", shares.join(", ")),
        };
        table.row(["service", &self.name, endpoint, &of, &by]);
        for LeftOut { endpoint, verdict, reason, tried_in_ms } in &self.left_out {
            let again = tried_in_ms.map_or(String::new(), |wait| format!("tried again in {} s", wait.div_ceil(1_000)));
            table.row(["  not", endpoint, verdict, reason, &again]);
        }
        if self.panic {
            table.row(["  panic", "too few endpoints are well, so that health is ignored", "", "", ""]);
        }
        table.row(["sends", &self.path, "", "", ""]);
    }
}

const LABEL: usize = 11;

/// Rows whose cells stand below each other.
#[derive(Default)]
struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    fn row(&mut self, cells: [&str; 5]) {
        self.rows.push(cells.map(str::to_string));
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; 5];
        for row in &self.rows {
            // A row of one cell takes the whole line.
            let alone = row[2..].iter().all(String::is_empty);
            for (width, cell) in widths.iter_mut().zip(row).skip(1).filter(|_| !alone) {
                let length = cell.chars().count();
                *width = (*width).max(if length > WIDTH_MAX { 0 } else { length });
            }
        }
        for row in &self.rows {
            let mut line = format!("{:<LABEL$}", row[0]);
            for (cell, width) in row.iter().zip(widths).skip(1) {
                line += &format!("{cell:<width$}  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_explanation_reads_like_this() {
        let other = |id: &str, place: &str, matcher: &str, how, reason: &str| Other {
            id: id.into(),
            place: place.into(),
            matcher: matcher.into(),
            how,
            reason: reason.into(),
        };
        let explanation = Explanation {
            verdict: Verdict::Forward,
            understood: Some(Understood {
                client_ip: Ipv4Addr::LOCALHOST.into(),
                scheme: "http".into(),
                host: "shop.example".into(),
                path: "/v1/stock/42".into(),
            }),
            listener: "main".into(),
            route: Some(Taken {
                id: "stock".into(),
                place: "shop.toml:110:1".into(),
                matcher: "GET shop.example/v1/stock/{sku}".into(),
                captures: [("sku".to_string(), "42".to_string())].into(),
            }),
            others: vec![
                other("catch-all", "shop.toml:40:1", "shop.example/v1/**", How::Over, "its path is less specific from segment 2 on"),
                other("stock-admin", "shop.toml:140:1", "PUT shop.example/v1/stock/{sku}", How::Not, "its method is not GET"),
            ],
            others_left_out: 3,
            limits: vec![Limited {
                name: "partner".into(),
                answer: LimitAnswer::Refusal,
                rate: "100/s".into(),
                burst: 100,
                key: vec![("header:x-tenant".into(), Some("acme".into())), ("host".into(), None)],
                remaining: Some(0),
                retry_after_s: Some(1),
                basis: "node".into(),
            }],
            service: Some(Chosen {
                name: "inventory".into(),
                by: ChosenBy::Sticky,
                split: vec![("inventory".into(), 90), ("inventory-next".into(), 10)],
                balance: "peak_ewma".into(),
                endpoint: Some("10.2.0.7:9090".into()),
                endpoints: 3,
                left_out: vec![LeftOut {
                    endpoint: "10.2.0.9:9090".into(),
                    verdict: "ejected".into(),
                    reason: "consecutive_5xx: answered 503".into(),
                    tried_in_ms: Some(2_400),
                }],
                panic: false,
                path: "/stock/42".into(),
            }),
            config: "a1f3c9".into(),
            node: "west-1".into(),
            elapsed_us: 38,
        };
        let expected = "\
route      stock          shop.toml:110:1  GET shop.example/v1/stock/{sku}           sku=42
  over     catch-all      shop.toml:40:1   shop.example/v1/**                        its path is less specific from segment 2 on
  not      stock-admin    shop.toml:140:1  PUT shop.example/v1/stock/{sku}           its method is not GET
           and 3 more
limit      partner        refusal          0 of 100 left on this node, again in 1 s  100/s per header:x-tenant=acme host=-
service    inventory      10.2.0.7:9090    1 of 3 endpoints, peak_ewma               sticky among inventory 90, inventory-next 10
  not      10.2.0.9:9090  ejected          consecutive_5xx: answered 503             tried again in 3 s
sends      /stock/42
verdict    would forward
           from 127.0.0.1 on `main` · config a1f3c9 · decided on west-1 in 38 µs
";
        assert_eq!(explanation.to_string(), expected);
        let json = serde_json::to_string(&explanation).expect("JSON");
        assert_eq!(serde_json::from_str::<Explanation>(&json).expect("an explanation"), explanation);
    }
}
