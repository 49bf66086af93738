//! `shoal upstreams`: the endpoints of every service, what is concluded of each, and why.

use super::{Exit, Failure, Output, Surroundings, Terminal, actors::span, ask::Desk, error};
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// This service alone.
    service: Option<String>,
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn upstreams(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let answer = args.desk.get("/v1/upstreams", surroundings)?;
    let all = answer.as_array().ok_or_else(|| args.desk.other_version("it answered no list of services"))?;
    let wanted = |service: &&Value| args.service.as_deref().is_none_or(|name| service["service"] == name);
    let services: Vec<&Value> = all.iter().filter(wanted).collect();
    if let (Some(name), true) = (&args.service, services.is_empty()) {
        let names: Vec<&str> = all.iter().map(|service| word(&service["service"])).collect();
        return Err(Failure {
            exit: Exit::Failed,
            code: error::NO_SERVICE,
            message: format!("there is no service `{name}`"),
            help: Some(format!("there is {}", if names.is_empty() { "none".to_string() } else { names.join(", ") })),
        });
    }
    match args.output {
        Output::Json => writeln!(terminal.out, "{:#}", json!(services))?,
        Output::Text => write!(terminal.out, "{}", table(&services))?,
    }
    Ok(Exit::Ok)
}

const HEADS: [&str; 9] = ["service", "endpoint", "verdict", "for", "in flight", "latency", "level", "share", "why"];

fn table(services: &[&Value]) -> String {
    let mut rows = vec![HEADS.map(str::to_string)];
    let mut notes = String::new();
    for service in services {
        let name = word(&service["service"]);
        rows.extend(list(&service["endpoints"]).iter().map(|endpoint| row(name, service, endpoint)));
        for known in list(&service["names"]).iter().filter(|known| known["state"] != "fresh") {
            let why = known["why"].as_str().map_or(String::new(), |why| format!(": {why}"));
            let span = known["for_ms"].as_u64().map_or(String::new(), |millis| format!(" for {}", span(millis)));
            notes += &format!("{name}: what is known of {} is {}{span}{why}\n", word(&known["name"]), word(&known["state"]));
        }
        for level in list(&service["levels"]).iter().filter(|level| level["panic"] == true) {
            notes += &format!("{name}: too few endpoints of level {} are well, so that health is ignored there\n", level["level"]);
        }
    }
    let widths: Vec<usize> =
        (0..HEADS.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out += cells.join("  ").trim_end();
        out.push('\n');
    }
    out + &notes
}

fn row(name: &str, service: &Value, endpoint: &Value) -> [String; HEADS.len()] {
    let level = &endpoint["level"];
    let percent = list(&service["levels"]).iter().find(|of| of["level"] == *level).map(|of| &of["share_percent"]);
    [
        name.to_string(),
        word(&endpoint["endpoint"]).to_string(),
        word(&endpoint["verdict"]).replace('_', "-"),
        endpoint["for_ms"].as_u64().map_or("-".to_string(), span),
        endpoint["active_requests"].to_string(),
        format!("{:.1}ms", endpoint["latency_ms"].as_f64().unwrap_or_default()),
        percent.map_or("-".to_string(), |percent| format!("{level} ({percent}%)")),
        format!("{}%", endpoint["slow_start_percent"].as_f64().unwrap_or_default()),
        reasons(endpoint),
    ]
}

/// Why it is not healthy, what it said last, and when it is tried again.
fn reasons(endpoint: &Value) -> String {
    let mut reasons = Vec::new();
    let mut error = |what: &str, error: &Value| {
        if let Some(said) = error["what"].as_str() {
            reasons.push(format!("{what}{said} {} ago", span(error["age_ms"].as_u64().unwrap_or_default())));
        }
    };
    error("", &endpoint["last_error"]);
    error("probe: ", &endpoint["last_probe_error"]);
    if let Some(why) = endpoint["why"].as_str() {
        reasons.insert(0, why.to_string());
    }
    if let Some(wait) = endpoint["tried_in_ms"].as_u64() {
        reasons.push(format!("tried again in {}", span(wait)));
    }
    reasons.join("; ")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_reads_like_this() {
        let service = json!({
            "service": "shop",
            "names": [
                { "name": "a.test", "state": "fresh", "for_ms": null, "why": null },
                { "name": "b.test", "state": "stale", "for_ms": 12_000, "why": "no DNS server answered in time" },
            ],
            "levels": [
                { "level": 1, "share_percent": 100, "panic": false },
                { "level": 2, "share_percent": 0, "panic": true },
            ],
            "endpoints": [
                {
                    "endpoint": "10.0.0.1:80", "verdict": "healthy", "active_requests": 3, "latency_ms": 1.25, "level": 1,
                    "slow_start_percent": 55.0, "for_ms": 12_000,
                },
                {
                    "endpoint": "10.0.0.2:80", "verdict": "ejected", "why": "consecutive_5xx", "active_requests": 0, "latency_ms": 80,
                    "level": 2, "slow_start_percent": 100.0, "for_ms": 700, "tried_in_ms": 4_300,
                    "last_error": { "what": "answered 500", "age_ms": 700 },
                    "last_probe_error": { "what": "not answered in time", "age_ms": 65_000 },
                },
            ],
        });
        let expected = "\
service  endpoint     verdict  for    in flight  latency  level     share  why
shop     10.0.0.1:80  healthy  12s    3          1.2ms    1 (100%)  55%
shop     10.0.0.2:80  ejected  700ms  0          80.0ms   2 (0%)    100%   consecutive_5xx; answered 500 700ms ago; probe: not answered in time 1m05s ago; tried again in 4s
shop: what is known of b.test is stale for 12s: no DNS server answered in time
shop: too few endpoints of level 2 are well, so that health is ignored there
";
        assert_eq!(table(&[&service]), expected);
    }
}
