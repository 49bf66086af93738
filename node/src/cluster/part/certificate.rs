//! How a node that runs comes by its certificate, and by the next one.

use super::{Papers, Part};
use crate::cluster::{
    authority::date,
    enrol::{Admission, Admitted, Asked, EnrolError, Hosts, Petition, Petitioner, renewal_again, renewal_due},
    tls::{Names, Tls},
};
use cluster::{
    BoxFuture, BoxStream,
    keyring::{Keyring, Purpose},
    offload,
    peers::{self, Reason, Unreachable},
    store::{Credentials, FILE},
    token::Token,
    trust::{Identity, Trust},
};
use serde_json::{Value, json};
use std::{
    future::pending,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How often a request may be passed on to somebody who can sign.
const HOPS: u32 = 2;

/// How often files of certificates from elsewhere are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// No renewal is further away than it can be slept.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

impl Part {
    pub(super) async fn certify(self: Arc<Self>) -> String {
        loop {
            let next = match &*self.papers() {
                Papers::None => Next::Nothing,
                Papers::Token(token) => Next::Join(token.clone()),
                Papers::Own(tls) => Next::Renew(tls.clone()),
                Papers::Outside(tls) => Next::Watch(tls.clone()),
            };
            match next {
                Next::Nothing => return pending().await,
                Next::Join(token) => {
                    if let Err(why) = self.join(token).await {
                        return why;
                    }
                }
                Next::Renew(tls) => self.renew(&tls).await,
                Next::Watch(tls) => self.watch(&tls).await,
            }
        }
    }

    /// Asks by a token until somebody lets this node in.
    async fn join(&self, token: Token) -> Result<(), String> {
        let petitioner = Petitioner::joins(&self.settings.name, &self.site.name, token).map_err(|error| error.to_string())?;
        let hosts = Seeds { part: self, trust: Unproved(petitioner.trust(&self.world)) };
        let admitted = petitioner.ask(&*self.world, &hosts).await.map_err(|error| {
            let error = error.to_string();
            self.say_as("join", &gist(&error), &error);
            error
        })?;
        let names = Names::Own { cluster: self.settings.name.clone() };
        let tls = Tls::new(self.world.clone(), names, &admitted.credentials).map_err(|error| error.to_string())?;
        let tls = Arc::new(tls);
        self.hold(&admitted.keyring);
        self.trust.become_(tls.clone());
        *self.papers() = Papers::Own(tls);
        self.say("join", &format!("{} is a member of {} now", self.site.name, self.settings.name));
        self.keep(admitted).await;
        Ok(())
    }

    /// Waits until the certificate is old enough, and has another one made.
    async fn renew(&self, tls: &Tls) {
        let due = renewal_due(tls.validity(), self.world.wall(), self.world.chance());
        tokio::time::sleep(due.min(SLEEP_MAX)).await;
        if due > SLEEP_MAX {
            return;
        }
        match self.have_renewed(tls).await {
            Ok(()) => _ = self.renewals.fetch_add(1, Relaxed),
            Err(why) => {
                self.say("certificate", &format!("the certificate could not be renewed: {why}; it holds until {}", until(tls)));
                tokio::time::sleep(renewal_again(tls.validity(), self.world.wall())).await;
            }
        }
    }

    async fn have_renewed(&self, tls: &Tls) -> Result<(), String> {
        let credentials = self.memory.credentials().ok_or("what it is to be renewed by is not remembered")?;
        let petitioner = Petitioner::renews(&self.settings.name, &credentials, self.world.wall()).map_err(|error| error.to_string())?;
        let admission = self.admit_renewal(&petitioner).await?;
        let mut admitted = petitioner.accept(admission, self.world.wall()).map_err(|error: EnrolError| error.to_string())?;
        // Whoever signed may be a step behind in a rotation: what is held here is only ever added to.
        if let Some(ours) = self.memory.keyring()
            && (!admitted.keyring.includes(&ours) || ours.includes(&admitted.keyring))
        {
            admitted.keyring = ours;
        }
        tls.replace(&admitted.credentials).map_err(|error| error.to_string())?;
        self.hold(&admitted.keyring);
        self.keep(admitted).await;
        Ok(())
    }

    /// By this node itself, if it can sign, or by a peer.
    async fn admit_renewal(&self, petitioner: &Petitioner) -> Result<Admission, String> {
        if self.memory.signer(&self.site.region).is_some() {
            let admitted = self.desk.admit(petitioner.petition(), |_| false, self.world.wall());
            return admitted.map_err(|error| error.to_string());
        }
        let mut last = "no peer is linked".to_string();
        for name in self.linked() {
            match self.peers.enrol(&name, petitioner.petition().written(HOPS)).await {
                Ok(reply) => return Ok(Admission::read(reply, &self.site.region)),
                Err(why) => last = format!("{name}: {why}"),
            }
        }
        Err(last)
    }

    /// Takes over what an operator has changed about the secrets in this node's memory, while it runs.
    pub(super) async fn look_at_keyring(&self) {
        if !matches!(&*self.papers(), Papers::Own(_)) {
            return;
        }
        let Some(folder) = self.site.state_dir.clone() else { return };
        let (memory, before) = (self.memory.clone(), self.memory.keyring());
        let (disk, stamped) = (self.world.disk(), *self.stamped());
        let looked = offload(&*self.world, move || {
            let stamp = disk.stamp(&folder.join(FILE)).ok();
            // What has not changed since the start is known. Opening it would keep a command of an operator out.
            let changed = stamped.is_some() && stamp != stamped;
            // Whoever writes there at this moment is done by the next look.
            if !changed || memory.look_again().is_ok() { stamp } else { stamped }
        });
        let looked = looked.await;
        *self.stamped() = looked;
        if let Some(keyring) = self.memory.keyring().filter(|keyring| before.as_ref() != Some(keyring)) {
            self.hold(&keyring);
            self.say("keyring", &format!("the keyring has changed, and is used as it is now: {}", keys(&keyring)));
        }
    }

    async fn keep(&self, admitted: Admitted) {
        let memory = self.memory.clone();
        if let Err(error) = offload(&*self.world, move || admitted.keep(&memory)).await {
            self.say("memory", &format!("the certificate is not remembered: {error}"));
        }
    }

    /// Takes over files that somebody else has renewed.
    async fn watch(&self, tls: &Tls) {
        let mut taken: Option<Credentials> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(credentials) = self.read_files().await else {
                self.say("certificate", &format!("the files of [cluster] tls cannot be read; the certificate holds until {}", until(tls)));
                continue;
            };
            if taken.as_ref() == Some(&credentials) {
                continue;
            }
            match tls.replace(&credentials) {
                // The first look takes over what the start has read.
                Ok(()) if taken.is_none() => {}
                Ok(()) => _ = self.renewals.fetch_add(1, Relaxed),
                // Half of a renewal may have been read: the next look sees the whole.
                Err(error) => {
                    self.say("certificate", &format!("the files of [cluster] tls are not taken: {error}"));
                    continue;
                }
            }
            taken = Some(credentials);
        }
    }

    async fn read_files(&self) -> Option<Credentials> {
        let files = self.settings.tls.clone()?;
        let disk = self.world.disk();
        offload(&*self.world, move || {
            let text = |file: &PathBuf| disk.read(file).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            Some(Credentials {
                chain: text(&files.identity.cert)?.into(),
                key: config::Secret::new(text(&files.identity.key)?),
                roots: text(&files.ca)?.into(),
            })
        })
        .await
    }

    pub(super) fn papers_shown(&self) -> Value {
        let (kind, tls) = match &*self.papers() {
            Papers::None => ("none", None),
            Papers::Token(_) => ("token", None),
            Papers::Own(tls) => ("own", Some(tls.clone())),
            Papers::Outside(tls) => ("outside", Some(tls.clone())),
        };
        json!({ "by": kind, "not_after_s": tls.map(|tls| seconds(tls.validity().not_after)), "renewals": self.renewals() })
    }

    /// When the certificate that is shown ends.
    pub(crate) fn certificate_ends(&self) -> Option<SystemTime> {
        match &*self.papers() {
            Papers::None | Papers::Token(_) => None,
            Papers::Own(tls) | Papers::Outside(tls) => Some(tls.validity().not_after),
        }
    }
}

enum Next {
    Nothing,
    Join(Token),
    Renew(Arc<Tls>),
    Watch(Arc<Tls>),
}

/// Those who may let this node in.
struct Seeds<'a> {
    part: &'a Part,
    trust: Unproved,
}

impl Hosts for Seeds<'_> {
    fn seeds(&self) -> BoxFuture<'_, Vec<SocketAddr>> {
        Box::pin(async {
            let seeds = self.part.whereabouts().await;
            if seeds.is_empty() {
                self.part.say("join", "there is a token and nobody to show it to; write `join = [\"host:port\"]` into [cluster]");
            }
            seeds
        })
    }

    fn ask<'a>(&'a self, seed: SocketAddr, petition: &'a Petition) -> BoxFuture<'a, Asked> {
        Box::pin(async move {
            match peers::enrol(&*self.part.world, &self.trust, seed, petition.written(HOPS)).await {
                Ok(reply) => Asked::Admitted(Box::new(Admission::read(reply, &petition.region))),
                Err(Unreachable::Refused(no)) => Asked::Refused { last: no.reason() == Reason::Token, why: no.message.into() },
                Err(unreachable) => Asked::Failed(io::Error::other(unreachable.to_string())),
            }
        })
    }

    fn tell(&self, seed: SocketAddr, why: &str) {
        self.part.say_as(&format!("join {seed}"), &gist(why), &format!("{seed} does not let this node in: {why}"));
    }
}

/// Connects as one who has nothing but a token: it knows whom it talks to, and is not known.
struct Unproved(crate::cluster::tls::Joining);

impl Trust for Unproved {
    fn accept(&self, _stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::NotConnected, "nobody is let in by who is not in")) })
    }

    fn connect(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>> {
        self.0.connect(stream)
    }
}

/// What a keyring holds, by the names of its keys.
fn keys(keyring: &Keyring) -> String {
    let rings = [Purpose::Hash, Purpose::Pepper, Purpose::Token].map(|purpose| {
        let used = keyring.used_id(purpose);
        let others: String = keyring.ids(purpose).filter(|id| *id != used).map(|id| format!(" and {id} held")).collect();
        format!("{purpose} {used} in use{others}")
    });
    rings.join(", ")
}

/// What a line is about that counts something: without the numbers it is the same each time.
fn gist(line: &str) -> String {
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn until(tls: &Tls) -> String {
    written(tls.validity().not_after)
}

/// `2026-11-24 17:05:09 UTC`
fn written(time: SystemTime) -> String {
    let (date, time) = (date(time).date(), date(time).time());
    format!("{date} {:02}:{:02}:{:02} UTC", time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::keyring::Key;

    #[test]
    fn operators_read_dates() {
        for (seconds, expected) in [(0, "1970-01-01 00:00:00 UTC"), (1_795_539_909, "2026-11-24 17:05:09 UTC")] {
            assert_eq!(written(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn each_step_of_a_rotation_is_told_in_other_words() {
        let mut keyring = Keyring::new([1, 2, 3].map(|seed| Key::new([seed; 32])));
        let before = keyring.used_id(Purpose::Token);
        let mut told = vec![keys(&keyring)];
        let added = keyring.add(Purpose::Token, Key::new([9; 32])).expect("there is room");
        told.push(keys(&keyring));
        assert!(told[1].ends_with(&format!("token {before} in use and {added} held")), "{}", told[1]);
        keyring.use_key(Purpose::Token, added).expect("it is held");
        told.push(keys(&keyring));
        keyring.remove(Purpose::Token, before).expect("it is not used");
        told.push(keys(&keyring));
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 4, "{told:?}");
    }

    #[test]
    fn a_line_that_counts_is_the_same_line_each_time() {
        let expired = |ago| cluster::token::TokenRefusal::Expired { ago: Duration::from_secs(ago) }.to_string();
        assert!(expired(2) != expired(31) && gist(&expired(2)) == gist(&expired(31)));
        assert_ne!(gist(&expired(2)), gist(&cluster::token::TokenRefusal::Forged.to_string()));
    }
}
