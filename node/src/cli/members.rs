//! The nodes of a cluster, as one of them knows them: who is there, who sees whom; and leaving, told rather than discovered.

use super::{Exit, Failure, Output, Surroundings, Terminal, actors::span, ask::Desk, error};
use ::config::Seed;
use serde_json::{Value, json};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Between two looks of `--watch` and of `--wait`.
const LOOK: Duration = Duration::from_secs(1);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Draw who sees whom.
    #[arg(long)]
    views: bool,
    /// Only those of this region.
    #[arg(long, value_name = "REGION", conflicts_with = "views")]
    region: Option<String>,
    /// Look again every second, until interrupted.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Args, Debug)]
pub(super) struct Join {
    /// Where nodes of the cluster are reached by other nodes: `host:port`, or as in `[cluster] join`.
    #[arg(value_name = "ADDR", value_parser = seed)]
    seed: Seed,
    #[command(flatten)]
    desk: Desk,
}

#[derive(clap::Args, Debug)]
pub(super) struct Leave {
    #[command(flatten)]
    desk: Desk,
}

#[derive(clap::Args, Debug)]
pub(super) struct Drain {
    /// Return once the node has ended.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = super::duration, requires = "wait")]
    timeout: Duration,
    #[command(flatten)]
    desk: Desk,
}

#[derive(clap::Args, Debug)]
#[group(id = "whom", required = true, multiple = false, args = ["name", "region"])]
pub(super) struct ForceLeave {
    /// The member that will not come back.
    name: Option<String>,
    /// All members of a region that will not come back.
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    desk: Desk,
}

fn seed(text: &str) -> Result<Seed, String> {
    Seed::parse(text).ok_or_else(|| "write host:port, dns:name:port or srv:_name._tcp.domain".into())
}

pub(super) fn members(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    loop {
        let shown = match args.views {
            true => views(args, surroundings)?,
            false => listed(args, surroundings)?,
        };
        // What is looked at again begins at the top of the screen.
        let clear = if args.watch && args.output == Output::Text { "\x1b[H\x1b[2J" } else { "" };
        write!(terminal.out, "{clear}{shown}")?;
        terminal.out.flush()?;
        if !args.watch {
            return Ok(Exit::Ok);
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a command that looks again has nothing to do in between")]
fn pause() {
    sleep(LOOK);
}

#[expect(clippy::disallowed_methods, reason = "a command that waits for a node has its own clock")]
fn since() -> Instant {
    Instant::now()
}

fn listed(args: &Args, surroundings: &Surroundings) -> Result<String, Failure> {
    let mut members = args.desk.list("/v1/members?limit=500", surroundings)?;
    members.retain(|member| args.region.as_deref().is_none_or(|region| member["region"] == region));
    if let (Some(region), true) = (&args.region, members.is_empty()) {
        return Err(Failure {
            exit: Exit::Failed,
            code: error::NO_MEMBER,
            message: format!("no member is in the region `{region}`"),
            help: Some("`shoal members` lists all".into()),
        });
    }
    Ok(match args.output {
        Output::Json => format!("{:#}\n", json!(members)),
        Output::Text => table(&members),
    })
}

fn views(args: &Args, surroundings: &Surroundings) -> Result<String, Failure> {
    let views = args.desk.get("/v1/views", surroundings)?;
    Ok(match args.output {
        Output::Json => format!("{views:#}\n"),
        Output::Text => matrix(&views),
    })
}

pub(super) fn join(args: &Join, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    args.desk.post("/v1/members/join", &json!({ "address": args.seed.to_string() }), surroundings)?;
    writeln!(terminal.out, "asking {} for the cluster; `shoal members` shows who answers", args.seed)?;
    Ok(Exit::Ok)
}

pub(super) fn leave(args: &Leave, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let answer = args.desk.post("/v1/leave", &json!({ "wait": false }), surroundings)?;
    writeln!(terminal.out, "{} leaves at once; what is in flight ends first", word(&answer["name"]))?;
    Ok(Exit::Ok)
}

pub(super) fn drain(args: &Drain, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let answer = args.desk.post("/v1/leave", &json!({ "wait": true }), surroundings)?;
    let name = word(&answer["name"]);
    writeln!(terminal.out, "{name} drains: it is unready, and ends when what is in flight has")?;
    if !args.wait {
        return Ok(Exit::Ok);
    }
    let began = since();
    while began.elapsed() < args.timeout {
        match args.desk.get("/v1/config", surroundings) {
            Err(Failure { exit: Exit::Unreachable, .. }) => {
                writeln!(terminal.out, "{name} has left after {}", span(began.elapsed().as_millis() as u64))?;
                return Ok(Exit::Ok);
            }
            _ => pause(),
        }
    }
    Err(Failure {
        exit: Exit::TimedOut,
        code: error::STILL_THERE,
        message: format!("{name} is still there after {}", span(args.timeout.as_millis() as u64)),
        help: Some("`[node] drain.bound` is how long it lets requests in flight take".into()),
    })
}

pub(super) fn force_leave(args: &ForceLeave, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let question = match (&args.name, &args.region) {
        (Some(name), _) => json!({ "name": name }),
        (None, region) => json!({ "region": region }),
    };
    let answer = args.desk.post("/v1/members/forget", &question, surroundings)?;
    let gone: Vec<&str> = list(&answer["forgotten"]).iter().map(word).collect();
    writeln!(
        terminal.out,
        "forgotten: {}; who comes back, comes back as a new life",
        if gone.is_empty() { "nobody".into() } else { gone.join(", ") }
    )?;
    Ok(Exit::Ok)
}

const HEADS: [&str; 9] = ["member", "region", "zone", "state", "seen", "config", "round trip", "clock", "address"];

fn table(members: &[Value]) -> String {
    let mut rows = vec![HEADS.map(str::to_string)];
    rows.extend(members.iter().map(row));
    let mut out = aligned(&rows);
    let differ: Vec<&str> =
        members.iter().filter(|member| member["configuration_differs"] == true).map(|member| word(&member["name"])).collect();
    if !differ.is_empty() {
        out += &format!("not all serve the same configuration: {}\n", differ.join(", "));
    }
    out
}

fn row(member: &Value) -> [String; HEADS.len()] {
    let link = &member["link"];
    let name = word(&member["name"]);
    let mark = if member["self"] == true { "*" } else { "" };
    let seen = match member["gone_for_ms"].as_u64() {
        Some(gone) => format!("{} for {}", word(&member["seen"]), span(gone)),
        None => word(&member["seen"]).to_string(),
    };
    let round_trip = link["round_trip_ms"].as_f64().map_or("-".into(), |millis| format!("{millis:.1}ms"));
    let clock = link["clock_offset_ms"].as_f64().map_or("-".into(), |millis| format!("{millis:+.1}ms"));
    let configuration: String = word(&member["configuration"]).chars().take(8).collect();
    [
        format!("{name}{mark}"),
        word(&member["region"]).into(),
        word(&member["zone"]).into(),
        word(&member["state"]).into(),
        seen,
        configuration,
        round_trip,
        clock,
        word(&member["address"]).into(),
    ]
}

/// One row for each member that tells whom it sees, one column for each member.
fn matrix(views: &Value) -> String {
    let members: Vec<&str> = list(&views["members"]).iter().map(word).collect();
    let mut head = vec!["sees".to_string()];
    head.extend(members.iter().map(ToString::to_string));
    head.push("told by".into());
    let mut rows = vec![head];
    for view in list(&views["views"]) {
        let mut row = vec![word(&view["by"]).to_string()];
        row.extend(members.iter().map(|member| {
            let mark = match view["sees"][*member].as_str() {
                Some("alive") => "x",
                Some("gone") => "-",
                Some("left") => "left",
                _ => "?",
            };
            mark.to_string()
        }));
        let why = view["why"].as_str().map_or(String::new(), |why| format!(" ({why})"));
        row.push(format!("{}{why}", view["told_by"].as_str().unwrap_or("nobody")));
        rows.push(row);
    }
    let mut out = aligned(&rows);
    let disagree: Vec<String> =
        list(&views["disagree"]).iter().map(|pair| format!("{} does not see {}", word(&pair["by"]), word(&pair["not"]))).collect();
    if !disagree.is_empty() {
        out += &format!("views disagree: {}\n", disagree.join(", "));
    }
    out
}

fn aligned<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out += cells.join("  ").trim_end();
        out.push('\n');
    }
    out
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
    fn members_read_like_this() {
        let members = [
            json!({
                "name": "eu-1", "region": "eu", "zone": "eu-1a", "state": "serving", "seen": "alive", "gone_for_ms": null, "self": true,
                "configuration": "a1f3c9d2e5", "configuration_differs": false, "address": "10.0.0.1:7900", "link": null,
            }),
            json!({
                "name": "us-1", "region": "us", "zone": "us-1a", "state": "draining", "seen": "gone", "gone_for_ms": 12_000, "self": false,
                "configuration": "b2", "configuration_differs": true, "address": "10.1.0.1:7900",
                "link": { "round_trip_ms": 81.25, "clock_offset_ms": -3.1 },
            }),
        ];
        let expected = "\
member  region  zone   state     seen          config    round trip  clock   address
eu-1*   eu      eu-1a  serving   alive         a1f3c9d2  -           -       10.0.0.1:7900
us-1    us      us-1a  draining  gone for 12s  b2        81.2ms      -3.1ms  10.1.0.1:7900
not all serve the same configuration: us-1
";
        assert_eq!(table(&members), expected);
    }

    #[test]
    fn who_sees_whom_is_a_matrix() {
        let views = json!({
            "members": ["a", "b", "c"],
            "views": [
                { "by": "a", "told_by": "itself", "sees": { "a": "alive", "b": "alive", "c": "gone" } },
                { "by": "b", "told_by": "itself", "sees": { "a": "alive", "b": "alive", "c": "alive" } },
                { "by": "c", "told_by": null, "sees": null, "why": "it does not answer in time" },
            ],
            "disagree": [{ "by": "a", "not": "c" }],
        });
        let expected = "\
sees  a  b  c  told by
a     x  x  -  itself
b     x  x  x  itself
c     ?  ?  ?  nobody (it does not answer in time)
views disagree: a does not see c
";
        assert_eq!(matrix(&views), expected);
    }
}
