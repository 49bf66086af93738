//! `shoal upstreams`: the endpoints of every service, what is concluded of each, and why; and leaving one of them alone.

use super::{
    Exit, Failure, Output, Surroundings, Terminal,
    actors::span,
    ask::{Desk, encoded},
    count, error,
};
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// This service alone.
    service: Option<String>,
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// Let an endpoint get no new requests, until `undrain` or until it has left its service.
    Drain {
        #[command(flatten)]
        one: One,
        /// Also if no other endpoint is well.
        #[arg(long)]
        force: bool,
    },
    /// Let an endpoint get requests again, few at first.
    Undrain(One),
}

#[derive(clap::Args, Debug)]
struct One {
    /// The service that has it.
    service: String,
    /// As `shoal upstreams` shows it: its address and port, behind `NAME@` if it was found by a name.
    endpoint: String,
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn upstreams(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match &args.verb {
        None => {}
        Some(Verb::Drain { one, force }) => return one.order("drain", &json!({ "force": force }), surroundings, terminal),
        Some(Verb::Undrain(one)) => return one.order("undrain", &json!({}), surroundings, terminal),
    }
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

impl One {
    fn order(&self, what: &str, order: &Value, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
        let Self { service, endpoint, desk, output } = self;
        let path = format!("/v1/upstreams/{}/endpoints/{}/{what}", encoded(service), encoded(endpoint));
        let ordered = desk.post(&path, order, surroundings)?;
        match output {
            Output::Json => writeln!(terminal.out, "{ordered:#}")?,
            Output::Text => writeln!(terminal.out, "{}", told(&ordered))?,
        }
        Ok(Exit::Ok)
    }
}

/// What an order came to.
fn told(ordered: &Value) -> String {
    let (service, endpoint) = (word(&ordered["service"]), word(&ordered["endpoint"]));
    let already = if ordered["changed"] == true { "" } else { " already" };
    if ordered["draining"] != true {
        return format!("{endpoint} of {service} takes requests{already}");
    }
    let left = match ordered["active_requests"].as_u64().unwrap_or_default() {
        0 => "nothing is in flight".to_string(),
        more => format!("{} in flight, see `shoal upstreams {service}`", count(usize::try_from(more).unwrap_or(usize::MAX), "request")),
    };
    format!("{endpoint} of {service} drains{already}: {left}")
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
    fn an_order_is_told_in_one_line() {
        let check = |draining: bool, changed: bool, in_flight: u64, expected: &str| {
            let ordered = json!({
                "service": "shop", "endpoint": "10.0.0.1:80", "draining": draining, "changed": changed, "active_requests": in_flight,
            });
            assert_eq!(told(&ordered), expected);
        };
        check(true, true, 0, "10.0.0.1:80 of shop drains: nothing is in flight");
        check(true, false, 1, "10.0.0.1:80 of shop drains already: 1 request in flight, see `shoal upstreams shop`");
        check(false, true, 0, "10.0.0.1:80 of shop takes requests");
        check(false, false, 4, "10.0.0.1:80 of shop takes requests already");
    }

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
