//! What has to be true of every run, whatever the seed: numbered, one sentence and one check each.

use crate::{
    faults::Faults,
    history::{Answer, Exchange, Id, Record},
};
use hyper::{Method, StatusCode};
use std::{collections::BTreeMap, fmt, time::Duration};

/// What the gateway of a run has promised.
pub(crate) struct Promises {
    /// Of the route with a limit.
    pub(crate) rate_per_second: u64,
    pub(crate) burst: u64,
    /// From the first byte of a request to the last of its answer.
    pub(crate) deadline: Duration,
    /// Attempts that a safe request may take, the first included.
    pub(crate) attempts: u32,
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// How long a drain may take.
    pub(crate) drain: Duration,
    /// The most that the network takes in one direction when it does not stall.
    pub(crate) latency_max: Duration,
}

/// A finished run.
pub(crate) struct Run<'a> {
    pub(crate) record: &'a Record,
    pub(crate) faults: &'a Faults,
    pub(crate) promises: &'a Promises,
}

struct Invariant {
    number: u32,
    sentence: &'static str,
    check: fn(&Run<'_>) -> Result<(), String>,
}

/// The number of the invariant that asks for the cause of an error among disturbances of links and the service's manners.
pub(crate) const EXCUSED_ERRORS: u32 = 3;

const ALL: [Invariant; 11] = [
    Invariant { number: 1, sentence: "every request gets exactly one answer, unless its caller goes away", check: one_answer },
    Invariant { number: 2, sentence: "every answer is the right one for its request", check: right_answer },
    Invariant { number: EXCUSED_ERRORS, sentence: "an error of the node's own has a cause outside of it", check: excused_errors },
    Invariant { number: 4, sentence: "no request waits longer than its deadline", check: deadline },
    Invariant { number: 5, sentence: "no more is admitted than rate times time plus burst", check: limit_holds },
    Invariant { number: 6, sentence: "nobody is refused whom the limit admits", check: refusals_are_due },
    Invariant { number: 7, sentence: "only a safe request reaches the service twice", check: arrivals },
    Invariant { number: 8, sentence: "after the drain nothing is left open", check: nothing_left },
    Invariant { number: 9, sentence: "nothing panics", check: no_panic },
    Invariant { number: 10, sentence: "nothing runs on a thread of its own", check: one_thread },
    Invariant { number: 11, sentence: "every answer has its line in the access log, and nothing has two", check: access_log },
];

/// A promise that a run has broken.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    pub(crate) number: u32,
    sentence: &'static str,
    evidence: String,
}

impl Violation {
    pub(crate) fn new(number: u32, sentence: &'static str, evidence: String) -> Self {
        Self { number, sentence, evidence }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} broken ({}): {}", self.number, self.sentence, self.evidence)
    }
}

impl Run<'_> {
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let broken = ALL.iter().filter_map(|invariant| {
            let evidence = (invariant.check)(self).err()?;
            Some(Violation::new(invariant.number, invariant.sentence, evidence))
        });
        broken.collect()
    }

    fn exchanges(&self) -> impl Iterator<Item = (Id, &Exchange)> {
        self.record.exchanges.iter().map(|(id, exchange)| (*id, exchange))
    }

    /// Whether something outside of the node excuses an error of its own, sent to be seen at `at`.
    fn excused(&self, exchange: &Exchange, at: Duration) -> bool {
        // The end of a connection is known to the node when it has come through the network.
        let known = |hung_up: &Duration| (exchange.asked.saturating_sub(self.promises.latency_max)..=at).contains(hung_up);
        exchange.wronged || self.record.hung_up.iter().any(known) || self.faults.behind_the_node(exchange.asked, at)
    }
}

fn one_answer(run: &Run<'_>) -> Result<(), String> {
    let well = |exchange: &Exchange| match exchange.answers.len() {
        0 => exchange.given_up || exchange.crashed,
        answers => answers == 1 && !exchange.given_up,
    };
    match run.exchanges().find(|(_, exchange)| !well(exchange)) {
        Some((id, exchange)) => Err(format!("{id} got {}", exchange.answers.len())),
        None => Ok(()),
    }
}

fn right_answer(run: &Run<'_>) -> Result<(), String> {
    for (id, exchange) in run.exchanges() {
        match exchange.answer() {
            Some((_, Answer::Whole { status: StatusCode::OK, id: whose, echo })) => {
                if *whose != Some(id) {
                    return Err(format!("{id} got the answer to {whose:?}"));
                }
                if *echo != exchange.echo {
                    return Err(format!("{id} got {echo:?} where {:?} is right", exchange.echo));
                }
            }
            Some((_, Answer::Whole { status: StatusCode::TOO_MANY_REQUESTS, .. })) if exchange.limited => {}
            Some((_, Answer::Whole { status, .. })) if status.is_server_error() => {}
            Some((_, Answer::Broken(_) | Answer::None(_))) if exchange.crashed => {}
            Some((at, Answer::Broken(_))) if exchange.cut || run.faults.lossy(exchange.asked, *at) => {}
            Some((_, answer)) => return Err(format!("{id} got {answer:?}")),
            None => {}
        }
    }
    Ok(())
}

fn excused_errors(run: &Run<'_>) -> Result<(), String> {
    for (id, exchange) in run.exchanges() {
        if let Some((at, Answer::Whole { status, .. })) = exchange.answer()
            && status.is_server_error()
            && !run.excused(exchange, *at)
        {
            return Err(format!("{id} got {status} at {at:?} and nothing had gone wrong"));
        }
    }
    Ok(())
}

fn deadline(run: &Run<'_>) -> Result<(), String> {
    for (id, exchange) in run.exchanges() {
        let Some((at, _)) = exchange.answer() else { continue };
        // There and back again, and one tick of the simulation at each of the three hosts.
        let network = 2 * run.promises.latency_max + Duration::from_millis(3);
        let bound = run.promises.deadline + network + run.faults.stalled_for_callers(exchange.asked, *at);
        let waited = *at - exchange.asked;
        if waited > bound {
            return Err(format!("{id} waited {waited:?} of {bound:?}"));
        }
    }
    Ok(())
}

/// The instant of an admission is not seen from outside; it lies between the question and the answer. A window counts what
/// lies in it whole, which can only be too few.
fn limit_holds(run: &Run<'_>) -> Result<(), String> {
    let admitted: Vec<(Duration, Duration)> = admitted(run).collect();
    for (from, _) in &admitted {
        for (_, to) in &admitted {
            let inside = admitted.iter().filter(|(asked, answered)| asked >= from && answered <= to).count();
            let bound = run.promises.rate_per_second as f64 * to.saturating_sub(*from).as_secs_f64() + run.promises.burst as f64;
            if inside as f64 > bound {
                return Err(format!("{inside} were admitted between {from:?} and {to:?}, where {bound:.2} is the most"));
            }
        }
    }
    Ok(())
}

/// Who may have taken from the limit. Of one who went away it is not known whether, nor when.
fn perhaps_admitted(run: &Run<'_>) -> impl Iterator<Item = (Duration, Duration)> {
    let given_up = run.exchanges().filter(|(_, exchange)| exchange.limited && exchange.given_up);
    admitted(run).chain(given_up.map(|(_, exchange)| (exchange.asked, Duration::MAX)))
}

/// A refusal is due if there is a window in which one more would have been too many. The window begins with an admission and
/// ends with the refusal, both somewhere between question and answer: it is taken as short as it can have been, and
/// counts everything that may have been admitted in it.
fn refusals_are_due(run: &Run<'_>) -> Result<(), String> {
    let admitted: Vec<(Duration, Duration)> = perhaps_admitted(run).collect();
    for (id, refused) in run.exchanges().filter(|(_, exchange)| exchange.refused()) {
        let Some((refused_at, _)) = refused.answer() else { continue };
        let due = admitted.iter().filter(|(asked, _)| asked <= refused_at).any(|(first_asked, first_answered)| {
            let before = admitted.iter().filter(|(asked, answered)| answered >= first_asked && asked <= refused_at).count();
            let window = refused.asked.saturating_sub(*first_answered).as_secs_f64();
            before as f64 + 1.0 > run.promises.rate_per_second as f64 * window + run.promises.burst as f64
        });
        if !due {
            return Err(format!("{id} was refused at {refused_at:?}"));
        }
    }
    Ok(())
}

/// Who certainly took from the limit: question and answer of each.
fn admitted(run: &Run<'_>) -> impl Iterator<Item = (Duration, Duration)> {
    let limited = run.exchanges().filter(|(_, exchange)| exchange.limited && !exchange.refused());
    limited.filter_map(|(_, exchange)| exchange.answer().map(|(at, _)| (exchange.asked, *at)))
}

fn arrivals(run: &Run<'_>) -> Result<(), String> {
    for (id, exchange) in run.exchanges() {
        let most = if exchange.method == Method::GET { run.promises.attempts } else { 1 };
        if exchange.arrivals > most {
            return Err(format!("{id}, a {}, arrived {} times", exchange.method, exchange.arrivals));
        }
        if exchange.refused() && exchange.arrivals > 0 {
            return Err(format!("{id} was refused and arrived all the same"));
        }
    }
    Ok(())
}

fn nothing_left(run: &Run<'_>) -> Result<(), String> {
    let drained = run.record.left.len();
    if drained != run.promises.nodes {
        return Err(format!("the drain has ended {drained} times where there are {} nodes", run.promises.nodes));
    }
    for left in &run.record.left {
        if left.connections + left.listeners + left.tasks > 0 {
            return Err(format!("{left:?}"));
        }
        if left.drained_in > run.promises.drain {
            return Err(format!("it took {:?}", left.drained_in));
        }
    }
    Ok(())
}

fn no_panic(run: &Run<'_>) -> Result<(), String> {
    run.record.panics.first().map_or(Ok(()), |panic| Err(panic.clone()))
}

fn one_thread(run: &Run<'_>) -> Result<(), String> {
    if run.record.threads.is_empty() { Ok(()) } else { Err(run.record.threads.join(", ")) }
}

fn access_log(run: &Run<'_>) -> Result<(), String> {
    let mut lines: BTreeMap<Id, Vec<StatusCode>> = BTreeMap::new();
    for (id, status) in &run.record.logged {
        lines.entry(*id).or_default().push(*status);
    }
    for (id, exchange) in run.exchanges() {
        let statuses = lines.remove(&id).unwrap_or_default();
        let told = match exchange.answer() {
            Some((_, Answer::Whole { status, .. })) => statuses == [*status] || (exchange.crashed && statuses.is_empty()),
            // Whether it has reached the node is not known.
            Some((_, Answer::Broken(_) | Answer::None(_))) | None => statuses.len() <= 1,
        };
        if !told {
            return Err(format!("{id} got {:?} and is logged with {statuses:?}", exchange.answers));
        }
    }
    match lines.keys().next() {
        Some(id) => Err(format!("{id} is logged and was never asked")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chance::Chance, history::Left};

    const SOUND: Left = Left { connections: 0, listeners: 0, tasks: 0, drained_in: Duration::ZERO };

    /// Holds a record of GETs against all invariants and names those that it breaks. Each exchange is one word: when
    /// it was asked, in milliseconds; what came, `200`, `429`, `503`, `200!` for somebody else's answer, `200?` for one that is not
    /// logged, `-` for none; and when.
    fn check(exchanges: &[(u64, &str, u64)], left: Option<Left>, broken: &[u32]) {
        let mut record = Record { left: left.into_iter().collect(), ..Record::default() };
        for (number, (asked, answer, answered)) in (0..).zip(exchanges) {
            let id = Id { caller: 0, number };
            let whose = if answer.ends_with('!') { Id { caller: 9, number } } else { id };
            let whole = |status| Answer::Whole { status, id: Some(whose), echo: String::new() };
            let answers = match answer.trim_end_matches(['!', '?']) {
                "-" => vec![],
                "broken" => vec![Answer::Broken("reset".to_owned())],
                "none" => vec![Answer::None("reset".to_owned())],
                status => vec![whole(StatusCode::from_bytes(status.as_bytes()).expect("the case names a status"))],
            };
            if let Ok(status) = StatusCode::from_bytes(answer.trim_end_matches('!').as_bytes()) {
                record.logged.push((id, status));
            }
            let exchange = Exchange {
                method: Method::GET,
                limited: true,
                echo: String::new(),
                asked: Duration::from_millis(*asked),
                answers: answers.into_iter().map(|answer| (Duration::from_millis(*answered), answer)).collect(),
                given_up: false,
                arrivals: 0,
                wronged: false,
                cut: false,
                crashed: false,
            };
            record.exchanges.insert(id, exchange);
        }
        let promises = Promises {
            rate_per_second: 10,
            burst: 2,
            deadline: Duration::from_secs(1),
            attempts: 2,
            nodes: 1,
            drain: Duration::from_secs(1),
            latency_max: Duration::from_millis(40),
        };
        let mut never = Chance::resume(0);
        let faults = loop {
            let faults = Faults::draw(&mut never, Duration::from_secs(1));
            if faults.end() == Duration::ZERO {
                break faults;
            }
        };
        let run = Run { record: &record, faults: &faults, promises: &promises };
        let numbers: Vec<u32> = run.violations().iter().map(|violation| violation.number).collect();
        assert_eq!(numbers, broken, "{:?}", run.violations());
    }

    #[test]
    fn a_quiet_run_breaks_nothing() {
        check(&[(0, "200", 50), (100, "200", 150), (200, "200", 250)], Some(SOUND), &[]);
    }

    #[test]
    fn a_request_without_an_answer_is_found() {
        check(&[(0, "-", 0)], Some(SOUND), &[1]);
    }

    #[test]
    fn somebody_elses_answer_is_found() {
        check(&[(0, "200!", 50)], Some(SOUND), &[2]);
    }

    #[test]
    fn a_connection_that_breaks_by_itself_is_found() {
        check(&[(0, "broken", 50)], Some(SOUND), &[2]);
        check(&[(0, "none", 50)], Some(SOUND), &[2]);
    }

    #[test]
    fn an_error_without_a_cause_is_found() {
        check(&[(0, "503", 50)], Some(SOUND), &[3]);
    }

    #[test]
    fn an_answer_after_the_deadline_is_found() {
        check(&[(0, "200", 1_200)], Some(SOUND), &[4]);
    }

    #[test]
    fn one_more_than_the_burst_at_once_is_found() {
        check(&[(0, "200", 50), (1, "200", 50), (2, "200", 50)], Some(SOUND), &[5]);
    }

    #[test]
    fn a_refusal_is_due_only_when_the_bucket_is_empty() {
        check(&[(0, "200", 5), (1, "200", 5), (2, "429", 7)], Some(SOUND), &[]);
        check(&[(0, "200", 5), (500, "429", 505)], Some(SOUND), &[6]);
        // Both may have been admitted just before the refusal, however long ago they were asked.
        check(&[(0, "200", 500), (1, "200", 500), (450, "429", 505)], Some(SOUND), &[]);
    }

    #[test]
    fn an_answer_that_the_access_log_does_not_know_is_found() {
        check(&[(0, "200?", 50)], Some(SOUND), &[11]);
    }

    #[test]
    fn what_a_drain_leaves_is_found() {
        check(&[], None, &[8]);
        check(&[], Some(Left { tasks: 1, ..SOUND }), &[8]);
        check(&[], Some(Left { drained_in: Duration::from_secs(2), ..SOUND }), &[8]);
    }
}
