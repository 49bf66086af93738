//! Hundreds of members that only gossip: how fast all know all, and what it costs.
//!
//! All start within some seconds and dial the same one. Then nothing happens for a while; then the
//! whole cluster is restarted three times, one member after the other in each region, the last time without a goodbye; then all
//! representatives of a region die at once, and come back; then a region is cut off, and heals; then new ones join, each by way of
//! a member of another region that does not speak for it. After each, the clock is
//! stopped when every living member sees exactly the living ones alive, each as the incarnation that it is. The table that
//! comes out is the trace.

use crate::{
    chance::Chance,
    history::History,
    invariants::Violation,
    shim,
    trace::Trace,
    wire::{Net, Weather},
    world::{Names, SimWorld},
};
use cluster::{
    gossip::{Ended, Gossip, Me, Membership, Refused, Sender, Traffic},
    member::{Facts, State},
    topology,
    views::Matrix,
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// What a node may send in a second, on the average of any phase.
const BYTES_PER_SECOND: u64 = 30_000;

/// By then all see what has happened.
const CONVERGED_WITHIN: Duration = Duration::from_secs(10);

/// When there is no hope any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is watched with nothing happening.
const QUIET: Duration = Duration::from_secs(20);

/// Between a goodbye and the end of a process, and from there to the start of the next one.
const GOODBYE: Duration = Duration::from_secs(1);
const DOWN: Duration = Duration::from_millis(500);

/// In each region, one member is restarted in so long; in a large one faster, so that it is done by then.
const STRIDE: Duration = Duration::from_secs(1);
const RESTARTED_WITHIN: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(250);

/// How late a member knows of a link that has come or gone.
const LINKS_EVERY: Duration = Duration::from_millis(500);

/// How large the cluster is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) nodes: u16,
    pub(crate) regions: u8,
}

impl Size {
    /// Whether it takes minutes.
    pub(crate) fn is_large(self) -> bool {
        self.nodes > 4 * SMALL.nodes
    }
}

pub(crate) const SMALL: Size = Size { nodes: 24, regions: 3 };

/// Plays it on a clock of its own; the trace is the table.
pub(super) fn play(seed: u64, size: Size, trace: &Trace, history: &History) -> (String, Vec<Violation>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets needs nothing of the machine");
    let mut fleet = Fleet::new(seed, size, trace.clone());
    runtime.block_on(fleet.play());
    let mut violations = std::mem::take(&mut fleet.violations);
    if let Some(panic) = history.record().panics.first() {
        violations.push(Violation::new(9, "nothing panics", panic.clone()));
    }
    let summary = format!("{} nodes in {} regions, {} restarts of gossip by itself", size.nodes, size.regions, fleet.ended.total());
    (summary, violations)
}

struct Fleet {
    size: Size,
    trace: Trace,
    world: Arc<SimWorld>,
    net: Net,
    chance: Chance,
    slots: Vec<Slot>,
    /// Whom all dial at the beginning.
    seed: Option<SocketAddr>,
    starting: bool,
    started: Option<Instant>,
    links_told: Option<Instant>,
    ended: Endings,
    refused: Refused,
    violations: Vec<Violation>,
}

/// One name, and the process that has it now.
struct Slot {
    sender: Sender,
    zone: Arc<str>,
    process: Option<Process>,
    /// What earlier processes of this name sent.
    before: Traffic,
}

struct Process {
    generation: u64,
    gossip: Arc<Gossip>,
    task: JoinHandle<()>,
}

/// How often gossip ended and was started again.
#[derive(Clone, Default)]
struct Endings(Arc<std::sync::Mutex<BTreeMap<String, u64>>>);

impl Endings {
    fn count(&self, ended: &Ended) {
        let kind = match ended {
            Ended::Stopped(why) => format!("stopped: {why}"),
            Ended::Forged => "forged".to_owned(),
            Ended::Superseded { alive, .. } => format!("superseded, alive {alive}"),
            Ended::Forgotten { .. } => "forgotten".to_owned(),
        };
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn total(&self) -> u64 {
        self.all().values().sum()
    }
}

impl Fleet {
    fn new(seed: u64, size: Size, trace: Trace) -> Self {
        let weather = Weather { lost_one_in: 50, near: 200..=2_000, far: 30_000..=60_000 };
        let slot = |number: u16| {
            let (region, place) = (number % u16::from(size.regions), number / u16::from(size.regions));
            let ([_, region], [high, low]) = (region.to_be_bytes(), place.to_be_bytes());
            let address = SocketAddr::from(([10, region, high, low], 7400));
            let sender = Sender { node: format!("r{region}-node-{place:03}").into(), region: format!("r{region}").into(), address };
            Slot { sender, zone: format!("z{}", place % 3).into(), process: None, before: Traffic::default() }
        };
        Self {
            size,
            world: Arc::new(SimWorld::new("node", seed, usize::MAX, Names::new(), trace.clone())),
            net: Net::new(seed, weather),
            chance: Chance::of(seed, "membership"),
            slots: (0..size.nodes + u16::from(size.regions)).map(slot).collect(),
            seed: None,
            starting: true,
            started: None,
            links_told: None,
            trace,
            ended: Endings::default(),
            refused: Refused::default(),
            violations: Vec::new(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock of the simulation")]
    async fn play(&mut self) {
        self.started = Some(Instant::now());
        let net = self.net.clone();
        let carrier = tokio::spawn(async move { net.carry().await });
        self.say(&format!(
            "{:<28} {:>9} {:>10} {:>10} {:>10} {:>11}",
            "phase", "lasted s", "mean B/s", "p99 B/s", "most B/s", "converged s"
        ));

        let phase = self.begin();
        let mut order: Vec<usize> = (0..usize::from(self.size.nodes)).collect();
        shuffle(&mut self.chance, &mut order);
        for number in order {
            self.start(number);
            self.pass(Duration::from_secs(3) / u32::from(self.size.nodes)).await;
        }
        (self.seed, self.starting) = (None, false);
        self.end("all start", phase, CONVERGED_WITHIN, &[]).await;

        let phase = self.begin();
        self.pass(QUIET).await;
        self.end("nothing happens", phase, LOOK, &[]).await;

        for (round, polite) in [(1, true), (2, true), (3, false)] {
            let phase = self.begin();
            self.restart_all(polite).await;
            let what = format!("rolling restart {round}{}", if polite { "" } else { ", no goodbye" });
            self.end(&what, phase, CONVERGED_WITHIN, &[]).await;
        }

        for region in 0..self.size.regions.min(2) {
            let phase = self.begin();
            let dead = self.representatives(region);
            dead.iter().for_each(|number| self.kill(*number));
            self.end(&format!("representatives of r{region} die"), phase, CONVERGED_WITHIN, &[]).await;
            let phase = self.begin();
            dead.iter().for_each(|number| self.start(*number));
            self.end("they come back", phase, CONVERGED_WITHIN, &[]).await;
        }

        if self.size.regions > 1 {
            let phase = self.begin();
            let regions: Vec<Arc<str>> = (0..self.size.regions).map(|region| format!("r{region}").into()).collect();
            regions[1..].iter().for_each(|other| self.net.cut(&regions[0], other));
            self.end("r0 is cut off", phase, CONVERGED_WITHIN, &regions[..1]).await;
            self.pass(Duration::from_secs(20)).await;
            let phase = self.begin();
            self.net.mend();
            self.end("r0 is back", phase, CONVERGED_WITHIN, &[]).await;
        }

        let phase = self.begin();
        self.newcomers();
        self.end("new ones join", phase, CONVERGED_WITHIN, &[]).await;

        self.pass(Duration::from_secs(10)).await;
        self.check_views();
        self.slots.iter().filter_map(|slot| slot.process.as_ref()).for_each(|process| self.refused += process.gossip.refused());
        let refused = self.refused;
        self.say(&format!("refused {refused:?}, without a link {}, ended {:?}", self.net.without_link(), self.ended.all()));
        if refused.unreadable + refused.oversized + refused.forged + refused.crowded_out > 0 {
            self.violations.push(Violation::new(103, "among honest members nothing is refused", format!("{refused:?}")));
        }
        if self.ended.total() > 0 {
            self.violations.push(Violation::new(104, "gossip does not end by itself", format!("{:?}", self.ended.all())));
        }
        carrier.abort();
    }

    fn say(&self, line: &str) {
        self.trace.line("members", line);
    }

    /// Time passes.
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the simulation")]
    async fn pass(&mut self, time: Duration) {
        sleep(time).await;
        let since = *self.links_told.get_or_insert_with(Instant::now);
        if since.elapsed() >= LINKS_EVERY {
            self.links_told = Some(Instant::now());
            self.net.tell_links();
        }
        let started = self.started.expect("it has started");
        shim::advance_to(Instant::now().duration_since(started));
    }

    fn start(&mut self, number: usize) {
        // The first time all dial the same one; later somebody that they remember.
        let living: Vec<SocketAddr> = self.slots.iter().filter(|slot| slot.process.is_some()).map(|slot| slot.sender.address).collect();
        let remembered = self.chance.draw() as usize % living.len().max(1);
        let seed = self.seed.or_else(|| living.get(remembered).copied());
        self.seed = self.seed.or(Some(self.slots[number].sender.address)).filter(|_| self.starting);

        let slot = &mut self.slots[number];
        let Sender { node, region, address } = slot.sender.clone();
        let generation = u64::try_from(shim::wall().as_millis()).expect("it is not that late");
        let facts = Facts {
            region,
            zone: Arc::clone(&slot.zone),
            address,
            protocol: (1, 2),
            build: "0.1.0".into(),
            state: State::Joining,
            configuration: "5d41402abc4b2a76".into(),
            load: 0,
            health: BTreeMap::new(),
        };
        let me = Me { cluster: "sim".into(), node, generation };
        let gossip = Arc::new(Gossip::new(Arc::clone(&self.world) as _, self.net.end(slot.sender.clone()), me, facts.clone()));
        self.net.plug(&slot.sender, Arc::clone(&gossip), seed);
        let (runs, endings) = (Arc::clone(&gossip), self.ended.clone());
        let task = tokio::spawn(async move {
            loop {
                let ended = runs.run().await;
                endings.count(&ended);
                if let Ended::Superseded { generation, .. } | Ended::Forgotten { generation } = ended {
                    runs.renew(generation + 1);
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        let serves = Arc::clone(&gossip);
        tokio::spawn(async move {
            sleep(Duration::from_millis(500)).await;
            serves.publish(Facts { state: State::Serving, ..facts });
        });
        slot.process = Some(Process { generation, gossip, task });
    }

    fn kill(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        self.net.unplug(slot.sender.address);
        if let Some(process) = slot.process.take() {
            process.task.abort();
            let traffic = process.gossip.traffic();
            slot.before.sent_bytes += traffic.sent_bytes;
            slot.before.sent_messages += traffic.sent_messages;
            slot.before.dropped += traffic.dropped;
            self.refused += process.gossip.refused();
        }
    }

    /// One member after the other in each region, all regions at the same time.
    async fn restart_all(&mut self, polite: bool) {
        enum Act {
            Goodbye,
            Kill,
            Start,
        }
        let in_a_region = u32::from(self.size.nodes).div_ceil(u32::from(self.size.regions));
        let stride = STRIDE.min(RESTARTED_WITHIN / in_a_region);
        let mut acts: Vec<(Duration, usize, Act)> = Vec::new();
        for number in 0..usize::from(self.size.nodes) {
            let place = u32::try_from(number / usize::from(self.size.regions)).expect("few members");
            let at = stride * place + self.chance.millis(0..=300);
            let killed = at + if polite { GOODBYE } else { Duration::ZERO };
            if polite {
                acts.push((at, number, Act::Goodbye));
            }
            acts.push((killed, number, Act::Kill));
            acts.push((killed + DOWN, number, Act::Start));
        }
        acts.sort_by_key(|(at, number, _)| (*at, *number));
        let mut now = Duration::ZERO;
        for (at, number, act) in acts {
            self.pass(at - now).await;
            now = at;
            match act {
                Act::Goodbye => self.slots[number].process.as_ref().expect("nobody else stops it").gossip.leave(),
                Act::Kill => self.kill(number),
                Act::Start => self.start(number),
            }
        }
    }

    /// One in each region that nobody has heard of before, and that knows of one member only.
    fn newcomers(&mut self) {
        for region in 0..self.size.regions {
            let beyond = (region + 1) % self.size.regions;
            let speakers = self.representatives(beyond);
            let of_beyond = |number: &usize| *self.slots[*number].sender.region == format!("r{beyond}");
            let known = (0..usize::from(self.size.nodes)).rev().filter(of_beyond).find(|number| !speakers.contains(number));
            let known = known.map(|number| self.slots[number].sender.address);
            self.seed = known;
            self.start(usize::from(self.size.nodes) + usize::from(region));
        }
    }

    /// Who speaks for a region, as its first living member sees it.
    fn representatives(&self, region: u8) -> Vec<usize> {
        let region = format!("r{region}");
        let slot = self.slots.iter().find(|slot| *slot.sender.region == *region && slot.process.is_some());
        let view = slot.and_then(|slot| slot.process.as_ref()).expect("somebody of the region lives").gossip.view();
        let names = topology::representatives(&view, &region);
        // The last one of a region lives on, so that there is somebody left to see it.
        let living = self.slots.iter().filter(|slot| *slot.sender.region == *region && slot.process.is_some()).count();
        let numbers = names.iter().filter_map(|name| self.slots.iter().position(|slot| slot.sender.node == *name));
        numbers.take(living - 1).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock of the simulation")]
    fn begin(&self) -> (Instant, Vec<u64>) {
        (Instant::now(), self.slots.iter().map(Slot::sent).collect())
    }

    /// Waits until all see what is, and writes the phase's line.
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the simulation")]
    async fn end(&mut self, what: &str, (began, sent): (Instant, Vec<u64>), within: Duration, apart: &[Arc<str>]) {
        let happened = Instant::now();
        let mut wrong = self.wrong(apart);
        while wrong.is_some() && happened.elapsed() < PATIENCE {
            self.pass(LOOK).await;
            wrong = self.wrong(apart);
        }
        let converged = happened.elapsed();
        // A rate over a moment says nothing.
        if began.elapsed() < QUIET {
            self.pass(QUIET - began.elapsed()).await;
        }
        let lasted = began.elapsed();
        let rate = |(slot, before): (&Slot, &u64)| ((slot.sent() - before) as f64 / lasted.as_secs_f64()) as u64;
        let started = self.slots.iter().zip(&sent).filter(|(slot, _)| slot.process.is_some() || slot.sent() > 0);
        let mut rates: Vec<u64> = started.map(rate).collect();
        rates.sort_unstable();
        let (mean, p99) = (rates.iter().sum::<u64>() / rates.len() as u64, rates[(rates.len() - 1) * 99 / 100]);
        let most = rates[rates.len() - 1];
        let (lasted, took) = (lasted.as_secs_f64(), converged.as_secs_f64());
        self.say(&format!("{what:<28} {lasted:>9.1} {mean:>10} {p99:>10} {most:>10} {took:>11.2}"));
        if let Some(wrong) = &wrong {
            self.say(&format!("still, {wrong}"));
        }
        if let Some(wrong) = wrong.or_else(|| (converged > within).then(|| format!("it took {took:.2} s"))) {
            self.violations.push(Violation::new(101, "everybody soon sees who is there", format!("{what}: {wrong}")));
        }
        if mean > BYTES_PER_SECOND || p99 > BYTES_PER_SECOND {
            let evidence = format!("{what}: mean {mean} B/s, p99 {p99} B/s");
            self.violations.push(Violation::new(102, "a node sends at most 30 KB/s", evidence));
        }
    }

    /// Who sees something that is not so. Regions in `apart` see only themselves, and the others only each other.
    fn wrong(&self, apart: &[Arc<str>]) -> Option<String> {
        let side = |slot: &Slot| apart.contains(&slot.sender.region);
        for slot in &self.slots {
            let Some(process) = &slot.process else { continue };
            let view = process.gossip.view();
            let mut expected = 0;
            for other in self.slots.iter().filter(|other| side(other) == side(slot)) {
                let Some(alive) = &other.process else { continue };
                expected += 1;
                let seen = view.members.get(&other.sender.node);
                let right = |member: &&cluster::member::Member| {
                    member.is_alive() && member.generation == alive.generation && member.facts.state == State::Serving
                };
                if seen.filter(right).is_none() {
                    return Some(format!("{} sees {} as {seen:?}", slot.sender.node, other.sender.node));
                }
            }
            let alive = view.alive().count();
            if alive != expected {
                return Some(format!("{} sees {alive} members alive where there are {expected}", slot.sender.node));
            }
        }
        None
    }

    /// At the end all matrices say the same, whoever draws them.
    fn check_views(&mut self) {
        let mut unsound = Vec::new();
        let mut longest = 0;
        for slot in &self.slots {
            let Some(process) = &slot.process else { continue };
            let view = process.gossip.view();
            let matrix = Matrix::of(&view);
            if !matrix.agrees() || matrix.rows.values().any(Option::is_none) {
                unsound.push(Arc::clone(&slot.sender.node));
            }
            longest = longest.max(view.rows.values().map(|row| row.text().len()).max().unwrap_or(0));
            let regions = view.regions.values().filter(|region| region.reachable && !region.representatives.is_empty()).count();
            if regions != usize::from(self.size.regions) {
                unsound.push(format!("{} ({regions} regions)", slot.sender.node).into());
            }
        }
        self.say(&format!("longest row {longest} B"));
        if !unsound.is_empty() {
            let evidence = format!("{} of {} draw another picture, {} first", unsound.len(), self.size.nodes, unsound[0]);
            self.violations.push(Violation::new(105, "in the end every matrix says that all see all", evidence));
        }
    }
}

impl Slot {
    fn sent(&self) -> u64 {
        self.before.sent_bytes + self.process.as_ref().map_or(0, |process| process.gossip.traffic().sent_bytes)
    }
}

fn shuffle(chance: &mut Chance, order: &mut [usize]) {
    for last in (1..order.len()).rev() {
        let other = chance.between(0..=last as u64);
        order.swap(last, usize::try_from(other).expect("it is below a length"));
    }
}
