//! Makes of what two rings bring one view, and decides what this node says in each.
//!
//! Of its own region a node believes what it hears in the region's ring. Of the others it believes their representatives:
//! by itself if it is one and hears them in the ring of the world, else by way of the representatives of its own region. A region of
//! which no representative is heard is unreachable, and with it all its members are gone, whatever was last said of each.

use super::{
    forgotten::Forgotten,
    native::Id,
    record::Record,
    relay::Relay,
    table::{Sighting, Table},
    told::{Base, Note, Told, cut, list, service, summary_text},
};
use crate::{
    health::{self, Summary},
    member::{By, Facts, Forget, Member, Region, Seen, State, View},
    topology,
    views::Row,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

mod election;
mod sources;
mod words;

use election::Election;
use sources::Heard;
use words::Voice;
pub(super) use words::Write;

/// The lower bits of an incarnation count how often this process has entered a ring.
pub(super) const TURN_BITS: u32 = 20;

/// Who has left is told of for so long, and then no more.
const LEFT_FOR: Duration = Duration::from_secs(20);

/// Who is gone is remembered, and dialed, for so long.
const GONE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The most members that are remembered as gone.
const GONE_MAX: usize = 1_024;

/// Somebody who is only named, and not yet heard, is not believed to be anything.
const NAMED_FOR: Duration = Duration::from_secs(5);

/// A node that enters the ring of its region again believes for so long what it knew before, as nobody has had the time to say
/// anything else.
const RESUMES_FOR: Duration = Duration::from_secs(8);

/// A link into the own region comes so much later than the one that it was learned of by.
const BRIDGE_LEAST: Duration = Duration::from_millis(250);

/// In the ring of its region for so long, a node has heard from it what its first peer there knows.
const LISTENS_FOR: Duration = Duration::from_millis(1_500);

pub(super) struct Picture {
    me: Arc<str>,
    facts: Facts,
    /// What this node is in each ring; `None` while it is not in it.
    region_id: Option<Id>,
    world_id: Option<Id>,
    entered: Option<Instant>,
    pub(super) region: Table,
    pub(super) world: Table,
    ours: BTreeMap<Arc<str>, Ours>,
    others: BTreeMap<Arc<str>, Other>,
    forgotten: Forgotten,
    /// Who has said goodbye over its link, as which generation, and when.
    goodbyes: BTreeMap<Arc<str>, (u64, Instant)>,
    /// The peers that there are links to, and their regions; `None` where nobody has said.
    linked: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// The regions of which somebody has spoken to this node in the ring of the world while it was not in it.
    knocks: BTreeSet<Arc<str>>,
    region_voice: Voice,
    world_voice: Voice,
    election: Election,
    view: Arc<View>,
    disturbed: bool,
    next: Option<Instant>,
}

/// A member of this node's region.
struct Ours {
    member: Member,
    incarnation: u64,
    version: u64,
    heartbeat: u64,
}

/// A member of another region.
struct Other {
    record: Record,
    by: Arc<str>,
    /// Since when it is gone or has left.
    since: Option<Instant>,
}

/// What has to be done.
#[derive(Default, PartialEq, Debug)]
pub(super) struct Step {
    pub(super) region: Vec<Write>,
    pub(super) world: Vec<Write>,
    /// Of whom nothing is said or heard in each ring; `None` where that has not been looked at.
    pub(super) mutes: Option<Mutes>,
    /// Whether this node should be in the ring of the world.
    pub(super) in_world: bool,
    /// Where the others who speak for this region are.
    pub(super) neighbours: Vec<SocketAddr>,
    /// Those of them who are not heard in the ring of the world.
    pub(super) unheard: Vec<SocketAddr>,
    pub(super) changed: bool,
    pub(super) conflict: Option<Conflict>,
}

#[derive(PartialEq, Debug)]
pub(super) struct Mutes {
    pub(super) region: BTreeSet<Id>,
    pub(super) world: BTreeSet<Id>,
}

/// Why this node cannot go on as the incarnation that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Conflict {
    Superseded { generation: u64, alive: bool },
    Forgotten { generation: u64 },
}

impl Picture {
    pub(super) fn new(me: Arc<str>, generation: u64, facts: Facts) -> Self {
        let mut picture = Self {
            region_id: None,
            world_id: None,
            entered: None,
            region: Table::default(),
            world: Table::default(),
            ours: BTreeMap::new(),
            others: BTreeMap::new(),
            forgotten: Forgotten::default(),
            goodbyes: BTreeMap::new(),
            linked: None,
            knocks: BTreeSet::new(),
            region_voice: Voice::default(),
            world_voice: Voice::default(),
            election: Election::default(),
            view: Arc::new(View {
                version: 0,
                me: Arc::clone(&me),
                region: Arc::clone(&facts.region),
                members: BTreeMap::new(),
                regions: BTreeMap::new(),
                rows: BTreeMap::new(),
            }),
            me,
            facts,
            disturbed: true,
            next: None,
        };
        let itself = picture.itself(generation);
        picture.ours.insert(Arc::clone(&picture.me), itself);
        picture.view = Arc::new(View { version: 1, ..picture.draw(&Heard::default()) });
        picture
    }

    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Region and address stay what they were: both are part of who this node is to others.
    pub(super) fn publish(&mut self, facts: Facts) {
        let (region, address) = (Arc::clone(&self.facts.region), self.facts.address);
        let left = self.facts.state == State::Left;
        self.facts = Facts { region, address, ..facts };
        if left {
            self.facts.state = State::Left;
        }
        self.disturbed = true;
    }

    pub(super) fn leave(&mut self) {
        self.facts.state = State::Left;
        self.disturbed = true;
    }

    pub(super) fn linked(&mut self, linked: BTreeMap<Arc<str>, Arc<str>>) {
        if self.linked.as_ref() != Some(&linked) {
            self.linked = Some(linked);
            self.disturbed = true;
        }
    }

    /// Somebody of this region tries to reach this node in the ring of the world, which it is not in. Whether that is news.
    pub(super) fn knock(&mut self, region: &Arc<str>) -> bool {
        let linked = || self.linked.iter().flat_map(BTreeMap::values).any(|linked| linked == region);
        let news = !self.knocks.contains(region) && !self.view.regions.get(region).is_some_and(|region| region.reachable) && linked();
        if news {
            self.knocks.insert(Arc::clone(region));
            self.disturbed = true;
        }
        news
    }

    pub(super) fn goodbye(&mut self, name: &Arc<str>, generation: u64, now: Instant) {
        let known = self.goodbyes.get(name).is_some_and(|(known, _)| *known >= generation);
        if !known && (self.ours.contains_key(name) || self.others.contains_key(name)) {
            self.goodbyes.insert(Arc::clone(name), (generation, now));
            self.disturbed = true;
        }
    }

    /// What is to be believed of an incarnation, if it has said goodbye over its link and nobody says so yet.
    fn as_of_goodbye(&self, name: &str, generation: u64, facts: Arc<Facts>) -> Arc<Facts> {
        let goodbye = self.goodbyes.get(name).is_some_and(|(goodbye, _)| *goodbye >= generation);
        if goodbye && facts.state != State::Left { Arc::new(Facts { state: State::Left, ..(*facts).clone() }) } else { facts }
    }

    fn goodbye_is_over(&self, id: &Id, now: Instant) -> bool {
        let over = |(goodbye, at): &(u64, Instant)| *goodbye >= id.incarnation >> TURN_BITS && now >= *at + LEFT_FOR;
        self.goodbyes.get(&id.name).is_some_and(over)
    }

    /// Whether there was anybody to forget.
    pub(super) fn forget(&mut self, whom: &Forget, now: Instant) -> bool {
        self.disturbed = true;
        match whom {
            Forget::Member(name) if *name != self.me => {
                let Some(member) = self.view.members.get(name) else { return false };
                self.forgotten.member(name, member.generation, true, now)
            }
            Forget::Region(region) if *region != self.facts.region => {
                let Some(generation) = self.view.of_region(region).map(|member| member.generation).max() else { return false };
                self.forgotten.region(region, generation, true, now)
            }
            Forget::Member(_) | Forget::Region(_) => false,
        }
    }

    /// This node is in the region's ring as this.
    pub(super) fn enters_region(&mut self, id: Id, now: Instant) {
        self.region.clear();
        self.entered = Some(now);
        self.region_voice = Voice::default();
        self.region_id = Some(id);
        self.disturbed = true;
    }

    pub(super) fn enters_world(&mut self, id: Id, now: Instant) {
        self.leaves_world();
        self.world_id = Some(id);
        self.election.entered(now);
    }

    pub(super) fn leaves_world(&mut self) {
        self.world.clear();
        self.world_voice = Voice::default();
        self.world_id = None;
        self.election.left();
        self.disturbed = true;
    }

    /// Looks at what has changed.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let changed = self.region.take_changed() | self.world.take_changed() | std::mem::take(&mut self.disturbed);
        if !changed && self.next.is_some_and(|next| now < next) {
            return self.goes_on();
        }
        if let Some(conflict) = self.conflict(now) {
            return Step { conflict: Some(conflict), ..self.goes_on() };
        }
        self.learn_forgotten(now);
        let heard = Heard::of(self, now);
        self.see_ours(&heard, now);
        self.see_others(&heard, now);
        let view = self.draw(&heard);
        let changed = view != *self.view;
        if changed {
            self.view = Arc::new(View { version: view.version + 1, ..view });
        }

        let rank = self.rank();
        let knocks = std::mem::take(&mut self.knocks);
        let knocked = knocks.iter().any(|region| !heard.is_noticed(region));
        let listens = self.listens(now);
        let patience = if knocked { Duration::ZERO } else { BRIDGE_LEAST + election::turn(&self.me, self.ours.len()) + listens };
        let bridges = knocked || self.is_bridge(&heard);
        let in_world = self.election.decide(rank.is_some() && listens.is_zero(), bridges, patience, now);
        let (region, world) = self.speak(rank, &heard, now);
        self.next = Some(now + if self.is_busy() { Duration::from_millis(250) } else { Duration::from_secs(2) });
        let mutes = Some(Mutes { region: self.mutes(&self.region, now), world: self.mutes(&self.world, now) });
        Step { region, world, mutes, in_world, changed, ..self.goes_on() }
    }

    /// Whether somebody else is this node, or whether it has been forgotten.
    fn conflict(&self, now: Instant) -> Option<Conflict> {
        for (table, own) in [(&self.region, &self.region_id), (&self.world, &self.world_id)] {
            let Some(own) = own else { continue };
            for (id, sighting) in table.named(&self.me).filter(|(id, _)| *id > own) {
                let generation = id.incarnation >> TURN_BITS;
                if sighting.live || now.saturating_duration_since(sighting.first) >= NAMED_FOR {
                    return Some(Conflict::Superseded { generation, alive: sighting.live });
                }
            }
        }
        let generation = self.generation();
        let said = |told: &Told| {
            let by_name = told.forgotten.get(&self.me).copied();
            by_name.max(told.forgotten_regions.get(&self.facts.region).copied()).filter(|forgotten| *forgotten >= generation)
        };
        let others = self.region.iter().chain(self.world.iter()).filter(|(id, _)| id.name != self.me);
        others.filter_map(|(_, sighting)| said(&sighting.told)).max().map(|generation| Conflict::Forgotten { generation })
    }

    fn generation(&self) -> u64 {
        self.region_id.as_ref().map_or_else(|| self.ours[&self.me].member.generation, |id| id.incarnation >> TURN_BITS)
    }

    fn learn_forgotten(&mut self, now: Instant) {
        self.forgotten.expire(now);
        let tables = self.region.iter().chain(self.world.iter()).filter(|(id, _)| id.name != self.me);
        for (_, sighting) in tables {
            for (name, generation) in sighting.told.forgotten.iter().filter(|(name, _)| **name != self.me) {
                self.forgotten.member(name, *generation, false, now);
            }
            for (region, generation) in sighting.told.forgotten_regions.iter().filter(|(region, _)| **region != self.facts.region) {
                self.forgotten.region(region, *generation, false, now);
            }
        }
    }

    /// Of each name of the region, the newest incarnation that is live; or else the newest.
    fn see_ours(&mut self, heard: &Heard, now: Instant) {
        let before = std::mem::take(&mut self.ours);
        let mut named: BTreeMap<&Arc<str>, (&Id, &Sighting, &Arc<Facts>)> = BTreeMap::new();
        for (id, sighting) in self.region.iter().filter(|(id, _)| id.name != self.me) {
            let Some(facts) = sighting.facts.as_ref().filter(|facts| facts.region == self.facts.region) else { continue };
            let only_named = !sighting.was_live && now.saturating_duration_since(sighting.first) < NAMED_FOR;
            let over = sighting.over_for(now) >= LEFT_FOR || self.goodbye_is_over(id, now);
            if only_named || over || self.forgotten.is(&id.name, &facts.region, id.incarnation >> TURN_BITS) {
                continue;
            }
            match named.get(&id.name) {
                // They come in the order of their incarnations.
                Some((_, older, _)) if older.live && !sighting.live => {}
                Some(_) | None => _ = named.insert(&id.name, (id, sighting, facts)),
            }
        }
        let mut ours: BTreeMap<Arc<str>, Ours> = BTreeMap::new();
        for (name, (id, sighting, facts)) in named {
            let generation = id.incarnation >> TURN_BITS;
            let facts = self.as_of_goodbye(name, generation, Arc::clone(facts));
            let gone_since = match before.get(name) {
                Some(Ours { member: Member { seen: Seen::Gone { since }, .. }, incarnation, .. }) if *incarnation == id.incarnation => {
                    *since
                }
                // The way around has ended now.
                Some(Ours { member: Member { seen: Seen::Alive, by: By::Representative(_), .. }, .. }) => now,
                Some(_) | None => sighting.quiet_since.unwrap_or(now),
            };
            let seen = match (facts.state, sighting.live) {
                (State::Left, _) => Seen::Left,
                (_, true) => Seen::Alive,
                (_, false) => Seen::Gone { since: gone_since },
            };
            let member = Member { name: Arc::clone(name), generation, facts, seen, by: By::Itself };
            let (incarnation, version, heartbeat) = (id.incarnation, sighting.version, sighting.heartbeat);
            ours.insert(Arc::clone(name), Ours { member, incarnation, version, heartbeat });
        }
        self.meet_neighbours(&mut ours, heard);
        // chitchat forgets the dead after some minutes; they are members all the same.
        let resumes = self.resumes(now);
        let mut remembered = Vec::new();
        for (name, mut known) in before.into_iter().filter(|(name, _)| *name != self.me && !ours.contains_key(name)) {
            let member = &mut known.member;
            let over = |(id, sighting): (&Id, &Sighting)| id.incarnation >= known.incarnation && sighting.over_since.is_some();
            if self.forgotten.is(&name, &self.facts.region, member.generation) || self.region.named(&name).any(over) {
                continue;
            }
            let since = match member.seen {
                Seen::Alive => now,
                Seen::Gone { since } if now < since + GONE_FOR => since,
                Seen::Gone { .. } | Seen::Left => continue,
            };
            if member.seen != Seen::Alive || !resumes {
                member.seen = Seen::Gone { since };
            }
            remembered.push((std::cmp::Reverse(since), name, known));
        }
        remembered.sort_by(|(since, name, _), (other, named, _)| (since, name).cmp(&(other, named)));
        let remembered = remembered.into_iter().map(|(_, name, known)| (name, known));
        ours.extend(remembered.take(GONE_MAX));
        let region = &self.region;
        self.goodbyes.retain(|name, _| region.named(name).next().is_some() || self.others.contains_key(name));
        let itself = self.itself(self.region_id.as_ref().map_or(0, |id| id.incarnation >> TURN_BITS));
        ours.insert(Arc::clone(&self.me), itself);
        self.ours = ours;
    }

    /// Whoever is of this region and heard by way of other regions alone is there, and needs a link, to be heard in the region.
    fn meet_neighbours(&self, ours: &mut BTreeMap<Arc<str>, Ours>, heard: &Heard) {
        for (name, (record, by)) in heard.neighbours.iter().filter(|(name, _)| **name != self.me) {
            let generation = record.incarnation >> TURN_BITS;
            let is_over = record.gone
                || record.facts.state == State::Left
                || self.forgotten.is(name, &self.facts.region, generation)
                || self.goodbyes.get(name).is_some_and(|(goodbye, _)| *goodbye >= generation);
            let known = ours.get(name).map(|known| &known.member);
            let is_told_better = known.is_some_and(|known| !matches!(known.seen, Seen::Gone { .. }) || known.generation > generation);
            if is_over || is_told_better {
                continue;
            }
            let (facts, by) = (Arc::clone(&record.facts), By::Representative(Arc::clone(by)));
            let member = Member { name: Arc::clone(name), generation, facts, seen: Seen::Alive, by };
            let Record { incarnation, version, heartbeat, .. } = *record;
            ours.insert(Arc::clone(name), Ours { member, incarnation, version, heartbeat });
        }
    }

    /// Whether the ring of the region hears it.
    fn is_in_region(&self, name: &str) -> bool {
        self.region.named(name).any(|(_, sighting)| sighting.live)
    }

    /// Whether what was known before still stands for what nobody has said again.
    fn resumes(&self, now: Instant) -> bool {
        self.entered.is_some_and(|entered| now < entered + RESUMES_FOR)
    }

    fn itself(&self, generation: u64) -> Ours {
        let sighting = self.region_id.as_ref().and_then(|id| self.region.get(id));
        let seen = if self.facts.state == State::Left { Seen::Left } else { Seen::Alive };
        let (name, facts) = (Arc::clone(&self.me), Arc::new(self.facts.clone()));
        Ours {
            member: Member { name, generation, facts, seen, by: By::Itself },
            incarnation: self.region_id.as_ref().map_or(generation << TURN_BITS, |id| id.incarnation),
            version: sighting.map_or(0, |sighting| sighting.version),
            heartbeat: sighting.map_or(0, |sighting| sighting.heartbeat),
        }
    }

    fn see_others(&mut self, heard: &Heard, now: Instant) {
        let before = std::mem::take(&mut self.others);
        let mut others: BTreeMap<Arc<str>, Other> = BTreeMap::new();
        for (name, (record, by)) in &heard.records {
            let (record, by) = (record.clone(), Arc::clone(by));
            others.insert(Arc::clone(name), Other { record, by, since: None });
        }
        // Who was there once was there: where an earlier process is spoken of still, nobody who is heard knows the later one.
        let generation = |other: &Other| other.record.incarnation >> TURN_BITS;
        for (name, known) in &before {
            if let Some(other) = others.get_mut(name).filter(|other| generation(other) < generation(known)) {
                other.record = Record { gone: true, ..known.record.clone() };
            }
        }
        // Nobody says anything of a region that is cut off for long: what was known of it stays true as far as it goes.
        for (name, other) in before.iter().filter(|(_, other)| !heard.hears_of(&other.record.facts.region)) {
            if !others.contains_key(name) && others.len() < 2 * GONE_MAX {
                let (record, by) = (other.record.clone(), Arc::clone(&other.by));
                others.insert(Arc::clone(name), Other { record, by, since: None });
            }
        }
        others.retain(|name, other| {
            let generation = other.record.incarnation >> TURN_BITS;
            other.record.facts = self.as_of_goodbye(name, generation, Arc::clone(&other.record.facts));
            let left = other.record.facts.state == State::Left;
            let away = left || other.record.gone || !heard.reachable(&other.record.facts.region);
            other.since = away.then(|| before.get(name).and_then(|before| before.since).unwrap_or(now));
            let kept = other.since.is_none_or(|since| now < since + if left { 2 * LEFT_FOR } else { GONE_FOR });
            kept && !self.ours.contains_key(name) && !self.forgotten.is(name, &other.record.facts.region, generation)
        });
        self.others = others;
    }

    /// The view of what has been seen, as of the version that there was.
    fn draw(&self, heard: &Heard) -> View {
        let mut view = View {
            version: self.view.version,
            me: Arc::clone(&self.me),
            region: Arc::clone(&self.facts.region),
            members: BTreeMap::new(),
            regions: BTreeMap::new(),
            rows: BTreeMap::new(),
        };
        view.members = self.ours.iter().map(|(name, ours)| (Arc::clone(name), ours.member.clone())).collect();
        for (name, other) in &self.others {
            let record = &other.record;
            let seen = match (record.facts.state, other.since) {
                (State::Left, _) => Seen::Left,
                (_, Some(since)) => Seen::Gone { since },
                (_, None) => Seen::Alive,
            };
            let (generation, facts) = (record.incarnation >> TURN_BITS, Arc::clone(&record.facts));
            let by = By::Representative(Arc::clone(&other.by));
            view.members.insert(Arc::clone(name), Member { name: Arc::clone(name), generation, facts, seen, by });
        }
        let names: BTreeSet<Arc<str>> =
            view.members.values().map(|member| Arc::clone(&member.facts.region)).chain(heard.regions()).collect();
        for name in names {
            let own = name == view.region;
            let representatives = topology::representatives(&view, &name);
            let health = if own {
                health::of_region(view.of_region(&name).filter(|member| member.is_alive()).map(|member| &member.facts.health))
            } else {
                heard.health(&name)
            };
            let (reachable, sees) = (own || heard.reachable(&name), heard.hears(&name));
            view.regions.insert(name, Region { reachable, representatives, sees, health });
        }
        // What somebody beyond a split has said last is about the time before.
        let told = |ours: &Ours| !ours.member.is_alive() || ours.member.by == By::Itself;
        for (name, ours) in self.ours.iter().filter(|(name, ours)| **name != self.me && told(ours)) {
            let id = Id { name: Arc::clone(name), incarnation: ours.incarnation, address: ours.member.facts.address };
            if let Some(row) = self.region.get(&id).and_then(|sighting| sighting.told.row.clone()) {
                view.rows.insert(Arc::clone(name), row);
            }
        }
        let linked = self.linked.as_ref().map(|linked| linked.keys().cloned().collect());
        let row = Row::of(&view, linked.as_ref());
        view.rows.insert(Arc::clone(&self.me), row);
        view
    }

    /// This node's place among those who speak for its region. Who leaves has one thing more to say.
    fn rank(&self) -> Option<usize> {
        if self.facts.state == State::Left {
            return self.world_id.is_some().then_some(0);
        }
        self.view.regions.get(&self.facts.region)?.representatives.iter().position(|name| *name == self.me)
    }

    /// Whether there is a link into a region that nobody of this one hears.
    fn is_bridge(&self, heard: &Heard) -> bool {
        let mut regions = self.linked.iter().flat_map(BTreeMap::values).filter(|region| **region != self.facts.region);
        regions.any(|region| !heard.is_noticed(region))
    }

    /// How much longer this node listens to the ring of its region before it takes a part in that of the world, if there is anybody to
    /// listen to: it has just started, and may know too few to tell who speaks for the region.
    fn listens(&self, now: Instant) -> Duration {
        let accompanied = self.linked.iter().flat_map(BTreeMap::values).any(|region| *region == self.facts.region);
        let listened = self.entered.map(|entered| entered + LISTENS_FOR).filter(|_| accompanied);
        listened.map_or(Duration::ZERO, |listened| listened.saturating_duration_since(now))
    }

    /// The others who speak for this region, and so should be in the ring of the world.
    fn neighbours(&self) -> impl Iterator<Item = &Member> {
        let speakers = self.view.regions.get(&self.facts.region).into_iter().flat_map(|region| &region.representatives);
        speakers.filter(|name| **name != self.me).filter_map(|name| self.view.members.get(name))
    }

    fn is_in_world(&self, name: &str) -> bool {
        self.world.named(name).any(|(_, sighting)| sighting.live)
    }

    /// Nothing is to be done but to go on.
    fn goes_on(&self) -> Step {
        let neighbours = self.neighbours().map(|member| member.facts.address).collect();
        let unheard = self.neighbours().filter(|member| !self.is_in_world(&member.name)).map(|member| member.facts.address).collect();
        Step { in_world: self.world_id.is_some(), neighbours, unheard, ..Step::default() }
    }

    fn is_busy(&self) -> bool {
        self.election.is_undecided() || self.region_voice.waits() || self.world_voice.waits()
    }

    /// Of whom nothing more is to be said in this ring.
    fn mutes(&self, table: &Table, now: Instant) -> BTreeSet<Id> {
        let own = [self.region_id.as_ref(), self.world_id.as_ref()];
        let over = |id: &Id, sighting: &Sighting| {
            let region = sighting.told.base.as_ref().map_or(&self.facts.region, |base| &base.region);
            sighting.swollen
                || sighting.over_for(now) >= LEFT_FOR
                || table.is_superseded(id)
                || self.goodbye_is_over(id, now)
                || self.forgotten.is(&id.name, region, id.incarnation >> TURN_BITS)
        };
        table.iter().filter(|(id, sighting)| !own.contains(&Some(*id)) && over(id, sighting)).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
