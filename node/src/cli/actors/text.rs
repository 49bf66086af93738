//! Actors as a person reads them on a terminal.

use serde_json::Value;
use std::fmt::Write;

/// The tree, one line for each actor, indented by its place. `actors` come in the order of the tree.
pub(super) fn tree(actors: &[Value]) -> String {
    let top = actors.first().map_or(0, depth);
    let names: Vec<String> = actors
        .iter()
        .enumerate()
        .map(|(at, actor)| match depth(actor) - top {
            0 => id(actor).to_string(),
            below => {
                let rails: String = (1..below).map(|level| if goes_on(&actors[at + 1..], top + level) { "│ " } else { "  " }).collect();
                let branch = if goes_on(&actors[at + 1..], top + below) { "├ " } else { "└ " };
                format!("{rails}{branch}{}", id(actor).rsplit('/').next().unwrap_or_default())
            }
        })
        .collect();
    columns(&names, actors)
}

/// The same columns, with whole ids.
pub(super) fn table(actors: &[Value]) -> String {
    columns(&actors.iter().map(|actor| id(actor).to_string()).collect::<Vec<_>>(), actors)
}

/// Whether somebody stands at `level` before the tree goes back to above it.
fn goes_on(after: &[Value], level: usize) -> bool {
    after.iter().map(depth).take_while(|depth| *depth >= level).any(|depth| depth == level)
}

fn columns(names: &[String], actors: &[Value]) -> String {
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().max(5);
    let mut out = format!("{:width$}  {:<12} {:>8} {:>9}  busy\n", "actor", "state", "restarts", "mailbox");
    for (name, actor) in names.iter().zip(actors) {
        let mailbox = match actor["mailbox"]["bound"].as_u64() {
            // Nobody has anything to say to it.
            None | Some(0) => "-".to_string(),
            Some(bound) => format!("{}/{bound}", actor["mailbox"]["depth"]),
        };
        let line = format!("{name:width$}  {:<12} {:>8} {mailbox:>9}  {}", state(actor), actor["restarts"], doing(actor));
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// One actor, with the state inside it.
pub(super) fn actor(actor: &Value) -> String {
    let mut out = format!("{}  {}\n", id(actor), word(&actor["kind"]));
    let mailbox = &actor["mailbox"];
    let mut line = |name: &str, told: String| {
        if !told.is_empty() {
            writeln!(out, "  {name:<9}{told}").expect("a string takes whatever is written");
        }
    };
    line("state", state(actor));
    line("life", format!("{}, {} restarts", actor["incarnation"], actor["restarts"]));
    line("busy", doing(actor));
    line("last", word(&actor["last"]).to_string());
    line(
        "mailbox",
        format!(
            "{} of {} wait; {} handled, {} refused, {} dropped, {} replaced",
            mailbox["depth"], mailbox["bound"], mailbox["handled"], mailbox["refused"], mailbox["dropped"], mailbox["replaced"]
        ),
    );
    if let Some(ago) = actor["failure"]["ms_ago"].as_u64() {
        line("failed", format!("{} ago: {}", span(ago), word(&actor["failure"]["exit"]["text"])));
    }
    match (&actor["inside"], actor["told_last"]["ms_ago"].as_u64()) {
        (Value::Null, Some(ago)) => {
            line("inside", format!("it does not answer; what it said {} ago:", span(ago)));
            out += &indented(&actor["told_last"]["inside"]);
        }
        (Value::Null, None) => line("inside", "it does not answer".to_string()),
        (inside, _) => {
            out += "  inside\n";
            out += &indented(inside);
        }
    }
    out
}

/// The lives of an actor, the newest last.
pub(super) fn story(history: &Value) -> String {
    let mut out = format!("{}  {}\n", id(history), word(&history["kind"]));
    let lives = history["lives"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lives.is_empty() {
        out += "  it has not lived yet\n";
    }
    for life in lives {
        let lasted = span(life["lasted_ms"].as_u64().unwrap_or_default());
        let told = match life["ended_ms_ago"].as_u64() {
            None => format!("runs, for {lasted}"),
            Some(ago) => format!("{} ago, after {lasted}: {}", span(ago), word(&life["exit"]["text"])),
        };
        writeln!(out, "  life {:<4} {told}", life["incarnation"].to_string()).expect("a string takes whatever is written");
    }
    // What its supervisor has decided.
    if lives.last().is_none_or(|life| !life["exit"].is_null()) {
        writeln!(out, "  now       {}", state(history)).expect("a string takes whatever is written");
    }
    out
}

fn indented(value: &Value) -> String {
    format!("{value:#}").lines().map(|line| format!("    {line}\n")).collect()
}

fn id(actor: &Value) -> &str {
    word(&actor["id"])
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn depth(actor: &Value) -> usize {
    actor["depth"].as_u64().unwrap_or_default() as usize
}

/// `running`, or `backing off 40ms`.
fn state(actor: &Value) -> String {
    let again = actor["again_in_ms"].as_u64().map(|millis| format!(" {}", span(millis))).unwrap_or_default();
    format!("{}{again}", word(&actor["state"]))
}

/// `stall, for 12s`, or nothing.
fn doing(actor: &Value) -> String {
    let busy = &actor["busy"];
    busy["with"].as_str().map(|with| format!("{with}, for {}", span(busy["for_ms"].as_u64().unwrap_or_default()))).unwrap_or_default()
}

/// `40ms`, `12s`, `3m05s`, `2h10m`, `4d06h`: two units, because nobody needs a third.
pub(in crate::cli) fn span(millis: u64) -> String {
    let (seconds, minutes, hours) = (millis / 1_000, millis / 60_000, millis / 3_600_000);
    match hours {
        24.. => format!("{}d{:02}h", hours / 24, hours % 24),
        1.. => format!("{hours}h{:02}m", minutes % 60),
        0 if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        0 if seconds > 0 => format!("{seconds}s"),
        0 => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(id: &str, depth: u64) -> Value {
        json!({
            "id": id, "kind": "pool", "depth": depth, "state": "running", "again_in_ms": null, "incarnation": 1, "restarts": 0,
            "busy": null, "last": null, "failure": null, "inside": null,
            "mailbox": { "depth": 0, "bound": 1, "handled": 0, "refused": 0, "dropped": 0, "replaced": 0 },
        })
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let mut actors = vec![
            shown("root", 0),
            shown("root/limits", 1),
            shown("root/limits/shard:00", 2),
            shown("root/services", 1),
            shown("root/services/shop", 2),
            shown("root/services/shop/pool:[::1]:80", 3),
        ];
        actors[2]["busy"] = json!({ "with": "stall", "for_ms": 12_345 });
        actors[4]["state"] = json!("backing off");
        actors[4]["again_in_ms"] = json!(40);
        actors[4]["restarts"] = json!(3);
        let expected = "\
actor                    state        restarts   mailbox  busy
root                     running             0       0/1
├ limits                 running             0       0/1
│ └ shard:00             running             0       0/1  stall, for 12s
└ services               running             0       0/1
  └ shop                 backing off 40ms        3       0/1
    └ pool:[::1]:80      running             0       0/1
";
        let squeezed = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(squeezed(&tree(&actors)), squeezed(expected));
        // A branch alone begins at its own place.
        assert!(tree(&actors[3..]).lines().nth(1).is_some_and(|line| line.starts_with("root/services ")));
    }

    #[test]
    fn an_actor_that_does_not_answer_is_shown_with_what_keeps_it() {
        let mut stalled = shown("root/limits/shard:00", 2);
        stalled["busy"] = json!({ "with": "stall", "for_ms": 61_000 });
        stalled["told_last"] = json!({ "ms_ago": 70_000, "inside": { "keys": 7 } });
        let text = actor(&stalled);
        for part in ["busy     stall, for 1m01s", "it does not answer; what it said 1m10s ago", "\"keys\": 7"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_story_is_told_life_by_life() {
        let exit = json!({ "how": "panicked", "failed": true, "during": "look", "text": "panicked during look: index out of bounds" });
        let mut history = json!({ "id": "root/limits", "kind": "supervisor", "state": "running", "again_in_ms": null, "lives": [
            { "incarnation": 1, "started_ms_ago": 9_000, "lasted_ms": 4_000, "ended_ms_ago": 5_000, "exit": exit },
            { "incarnation": 2, "started_ms_ago": 4_990, "lasted_ms": 4_990, "ended_ms_ago": null, "exit": null },
        ] });
        let expected = "\
root/limits  supervisor
  life 1    5s ago, after 4s: panicked during look: index out of bounds
  life 2    runs, for 4s
";
        assert_eq!(story(&history), expected);

        history["lives"].as_array_mut().expect("a list").truncate(1);
        (history["state"], history["again_in_ms"]) = (json!("down"), json!(31_000));
        assert!(story(&history).ends_with("index out of bounds\n  now       down 31s\n"), "{}", story(&history));
    }

    #[test]
    fn spans_have_two_units() {
        for (millis, expected) in
            [(0, "0ms"), (999, "999ms"), (59_999, "59s"), (185_000, "3m05s"), (7_800_000, "2h10m"), (367_200_000, "4d06h")]
        {
            assert_eq!(span(millis), expected);
        }
    }
}
