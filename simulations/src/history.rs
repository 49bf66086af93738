//! What callers and the service saw of a run: the evidence that the invariants are held against.

use crate::{SIMULATION, shim, trace::Trace};
use hyper::{Method, StatusCode};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    panic::PanicHookInfo,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Names one request of a run: which caller, and its how manyth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Id {
    pub(crate) caller: u32,
    pub(crate) number: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.caller, self.number)
    }
}

impl Id {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (caller, number) = text.split_once('-')?;
        Some(Self { caller: caller.parse().ok()?, number: number.parse().ok()? })
    }
}

/// One request and all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) method: Method,
    pub(crate) limited: bool,
    /// What the service answers if it gets the request whole.
    pub(crate) echo: String,
    pub(crate) asked: Duration,
    pub(crate) answers: Vec<(Duration, Answer)>,
    /// The caller went away before it had an answer.
    pub(crate) given_up: bool,
    /// How often it reached the service.
    pub(crate) arrivals: u32,
    /// The service did something to it that a node may answer with an error of its own.
    pub(crate) wronged: bool,
    /// The service broke its connection, or fell silent, while an answer to it may have been on the way.
    pub(crate) cut: bool,
    /// The node that was asked crashed before it had answered, or so soon after that it may not have told anybody.
    pub(crate) crashed: bool,
}

impl Exchange {
    /// The only answer, once it is there.
    pub(crate) fn answer(&self) -> Option<&(Duration, Answer)> {
        match self.answers.as_slice() {
            [answer] => Some(answer),
            _ => None,
        }
    }

    pub(crate) fn refused(&self) -> bool {
        matches!(self.answer(), Some((_, Answer::Whole { status: StatusCode::TOO_MANY_REQUESTS, .. })))
    }
}

/// How an exchange ended for the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Whole {
        status: StatusCode,
        /// Whose answer it is, in the service's own words.
        id: Option<Id>,
        echo: String,
    },
    /// The connection ended, or said something that is not HTTP, after the head of the answer.
    Broken(String),
    /// The same before there was a head.
    None(String),
}

/// Shared by everyone who takes part in a run.
#[derive(Clone)]
pub(crate) struct History {
    record: Arc<Mutex<Record>>,
    trace: Trace,
}

#[derive(Default)]
pub(crate) struct Record {
    pub(crate) exchanges: BTreeMap<Id, Exchange>,
    /// When the service closed a connection without a word.
    pub(crate) hung_up: Vec<Duration>,
    pub(crate) callers_done: u32,
    pub(crate) panics: Vec<String>,
    /// The names of threads that are neither the simulation's nor the one that waits for it.
    pub(crate) threads: Vec<String>,
    /// One for each node that has drained.
    pub(crate) left: Vec<Left>,
    /// What the access logs of nodes say that have drained: each line's request, and its status.
    pub(crate) logged: Vec<(Id, StatusCode)>,
}

/// What a node still holds after its drain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Left {
    pub(crate) connections: usize,
    pub(crate) listeners: usize,
    pub(crate) tasks: usize,
    /// How long the drain took.
    pub(crate) drained_in: Duration,
}

impl History {
    pub(crate) fn new(trace: Trace) -> Self {
        Self { record: Arc::default(), trace }
    }

    /// A panicking task may have held it; what it wrote is still true.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asked(&self, id: Id, method: Method, path: &str, limited: bool, echo: String) {
        self.trace.line("caller", format_args!("{id} asks {method} {path}"));
        let exchange = Exchange {
            method,
            limited,
            echo,
            asked: shim::elapsed(),
            answers: Vec::new(),
            given_up: false,
            arrivals: 0,
            wronged: false,
            cut: false,
            crashed: false,
        };
        let before = self.record().exchanges.insert(id, exchange);
        assert!(before.is_none(), "a caller numbers its requests");
    }

    pub(crate) fn answered(&self, id: Id, answer: Answer) {
        match &answer {
            Answer::Whole { status, .. } if status.is_success() => self.trace.line("caller", format_args!("{id} got {}", status.as_u16())),
            Answer::Whole { status, echo, .. } => self.trace.line("caller", format_args!("{id} got {}: {echo}", status.as_u16())),
            Answer::Broken(how) => self.trace.line("caller", format_args!("{id} got nothing whole: {how}")),
            Answer::None(how) => self.trace.line("caller", format_args!("{id} got nothing: {how}")),
        }
        let at = shim::elapsed();
        self.of(id, |exchange| exchange.answers.push((at, answer)));
    }

    pub(crate) fn given_up(&self, id: Id) {
        self.trace.line("caller", format_args!("{id} goes away"));
        self.of(id, |exchange| exchange.given_up = true);
    }

    pub(crate) fn arrived(&self, host: &str, id: Id) {
        self.trace.line(host, format_args!("{id} arrives"));
        self.of(id, |exchange| exchange.arrivals += 1);
    }

    /// The service closes a connection without a word. `latest` is what it was last asked on it.
    pub(crate) fn hangs_up(&self, latest: Option<Id>) {
        match latest {
            Some(id) => self.trace.line("service", format_args!("hangs up after {id}")),
            None => self.trace.line("service", "hangs up"),
        }
        self.record().hung_up.push(shim::elapsed());
        if let Some(id) = latest {
            self.of(id, |exchange| exchange.cut = true);
        }
    }

    /// The service does to a request what it should not.
    pub(crate) fn wronged(&self, id: Id, how: &str) {
        self.trace.line("service", format_args!("{id} {how}"));
        self.of(id, |exchange| exchange.wronged = true);
    }

    /// The service answers a request before it has read it whole, and closes the connection without having said so: the node
    /// may have taken the connection for another request by then.
    pub(crate) fn interrupted(&self, id: Id) {
        self.wronged(id, "is interrupted");
        self.record().hung_up.push(shim::elapsed());
    }

    /// The service begins an answer and does not end it in time.
    pub(crate) fn cut(&self, id: Id, how: &str) {
        self.wronged(id, how);
        self.of(id, |exchange| exchange.cut = true);
    }

    /// The node that this caller asks has crashed. What it has answered after `known` may not be in its access log.
    pub(crate) fn crashed(&self, caller: u32, known: Duration) {
        let (first, last) = (Id { caller, number: 0 }, Id { caller, number: u32::MAX });
        for (_, exchange) in self.record().exchanges.range_mut(first..=last) {
            exchange.crashed |= exchange.answer().is_none_or(|(at, _)| *at >= known);
        }
    }

    pub(crate) fn panicked(&self, panic: &PanicHookInfo<'_>) {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        let payload = panic.payload();
        let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = format!("{} at {place}", said.unwrap_or("something that is not text"));
        self.trace.line("panic", &text);
        // The panic may have begun while the record was held.
        if let Ok(mut record) = self.record.try_lock() {
            record.panics.push(text);
        }
    }

    /// Looks at the threads of this process: what runs beside the simulation ends in an order that no seed decides.
    #[expect(clippy::disallowed_methods, reason = "the simulator looks at itself through the kernel's files")]
    pub(crate) fn count_threads(&self) -> io::Result<()> {
        for thread in fs::read_dir("/proc/self/task")? {
            let thread = thread?;
            let name = fs::read(thread.path().join("comm"))?;
            let name = String::from_utf8_lossy(&name).trim().to_owned();
            if name != SIMULATION && thread.file_name() != process::id().to_string().as_str() {
                self.record().threads.push(name);
            }
        }
        Ok(())
    }

    pub(crate) fn caller_done(&self) {
        self.record().callers_done += 1;
    }

    fn of(&self, id: Id, change: impl FnOnce(&mut Exchange)) {
        change(self.record().exchanges.get_mut(&id).expect("nobody speaks of a request that was not made"));
    }
}
