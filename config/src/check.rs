//! From what was read to a gateway: what is wrong between the parts, and every name resolved.
//!
//! A part that has errors of its own still counts as defined, so that nothing is said twice. Every function here
//! returns nothing where a problem has been reported, and goes on with the rest.

mod cluster;
mod discovery;
mod edge;
mod edits;
mod judging;
mod limit;
mod matcher;
mod overlap;
mod route;
mod service;

use crate::{
    Drills, Gateway, Limit, Listener, Place, Revision, RouteTable, Service,
    document::{Span, Spanned},
    file::{
        Read, Reader, Root, near,
        value::{Name, Named},
    },
    problem::codes,
};
use std::{collections::HashMap, sync::Arc};

/// Makes a gateway of a main file and its includes, in this order. It may only be served if no error was found.
pub(crate) fn check(roots: Vec<Root>, r: &mut Reader<'_>) -> Option<Gateway> {
    let main = roots.first()?.meta.at;
    let mut node = Vec::new();
    let mut cluster = Vec::new();
    let mut admin = Vec::new();
    let mut telemetry = Vec::new();
    let mut drills = Vec::new();
    let (mut listen, mut service, mut limit, mut written) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for root in roots {
        node.extend(root.node);
        cluster.extend(root.cluster);
        admin.extend(root.admin);
        telemetry.extend(root.telemetry);
        drills.extend(root.drills);
        listen.extend(root.listen.value.0);
        service.extend(root.service.value.0);
        limit.extend(root.limit.value.0);
        written.extend(root.route.value);
    }

    let admin_at = admin.first().map(|admin| admin.bind.at);
    let node = single(node, "[node]", main, r);
    let admin = single(admin, "[admin]", main, r);
    let telemetry = single(telemetry, "[telemetry]", main, r);
    let drills = single(drills, "[drills]", main, r);
    let cluster = first(cluster, "[cluster]", r).map(|cluster| cluster::cluster(cluster, &node, r));
    let node = edge::node(node);
    let admin = edge::admin(admin, r);
    let telemetry = edge::telemetry(telemetry, r);

    let mut bound = edge::bound(&listen);
    bound.extend(cluster.iter().flat_map(|(_, bind)| *bind));

    let mut known = Known {
        listeners: Definitions::new("listener", "[listen.NAME]", listen, r, edge::listener),
        services: Definitions::new("service", "[service.NAME]", service, r, service::service),
        limits: Definitions::new("limit", "[limit.NAME]", limit, r, limit::named),
    };
    edge::addresses(&bound, admin.as_ref().and_then(|admin| admin.bind), admin_at, r);
    let routes = route::routes(written, &mut known, r);

    // What is not used may only seem so as long as something else is wrong.
    if r.found.errors() == 0 {
        known.services.report_unused(r);
        known.limits.report_unused(r);
        if known.listeners.all.is_empty() {
            let finding = r.found.warning(codes::NOTHING_SERVED, main, "there is no listener, so nothing is served");
            finding.help("add [listen.main] with bind = \"127.0.0.1:8080\"");
        } else if routes.is_empty() {
            let finding = r.found.warning(codes::NOTHING_SERVED, main, "there is no route, so every request is answered 404");
            finding.help("add [[route]] with match = \"/**\" and a service");
        }
    }
    Some(Gateway {
        revision: Revision("".into()),
        node,
        cluster: match cluster {
            Some((cluster, _)) => Some(cluster?),
            None => None,
        },
        listeners: known.listeners.into_values(),
        services: known.services.into_values(),
        limits: known.limits.into_values(),
        routes: RouteTable::new(routes),
        admin: admin?,
        telemetry: telemetry?,
        drills: Drills { allow: drills.value.allow.value },
        files: Vec::new(),
        sources: Vec::new(),
    })
}

/// A table that there is one of, or that is as if it were empty.
fn single<T: Read>(tables: Vec<Spanned<T>>, name: &str, main: Span, r: &mut Reader<'_>) -> Spanned<T> {
    first(tables, name, r).unwrap_or_else(|| Spanned { value: r.absent(main), at: main })
}

/// A table that there is at most one of.
fn first<T>(mut tables: Vec<Spanned<T>>, name: &str, r: &mut Reader<'_>) -> Option<Spanned<T>> {
    for again in tables.iter().skip(1) {
        let finding = r.found.error(codes::DUPLICATE_NAME, again.at, format!("{name} is written in two files"));
        finding.help("keep one of them").also(tables[0].at);
    }
    (!tables.is_empty()).then(|| tables.swap_remove(0))
}

/// What a route may name.
struct Known {
    listeners: Definitions<Listener>,
    services: Definitions<Service>,
    limits: Definitions<Limit>,
}

/// The parts of one kind, by name.
struct Definitions<T> {
    kind: &'static str,
    header: &'static str,
    all: Vec<Definition<T>>,
    index: HashMap<Arc<str>, usize>,
}

struct Definition<T> {
    name: Arc<str>,
    at: Span,
    /// Nothing if it has errors of its own.
    value: Option<Arc<T>>,
    used: bool,
}

impl<T> Definitions<T> {
    fn new<W>(
        kind: &'static str,
        header: &'static str,
        written: Tables<W>,
        r: &mut Reader<'_>,
        make: fn(&Arc<str>, Spanned<W>, &mut Reader<'_>) -> Option<T>,
    ) -> Self {
        let mut definitions = Self { kind, header, all: Vec::new(), index: HashMap::new() };
        for (name, table) in written {
            if let Some(earlier) = definitions.index.get(&name.value) {
                let message = format!("{kind} `{}` is defined twice", name.value);
                let finding = r.found.error(codes::DUPLICATE_NAME, name.at, message);
                finding.help("rename one of them, or take it away").also(definitions.all[*earlier].at);
                continue;
            }
            if !Name::is_valid(&name) {
                Name::complain(&name, name.at, r);
            }
            let value = make(&name.value, table, r).map(Arc::new);
            definitions.index.insert(Arc::clone(&name.value), definitions.all.len());
            definitions.all.push(Definition { name: name.value, at: name.at, value, used: false });
        }
        definitions
    }

    /// Returns the part that a route names. Inside is nothing if it is known but has errors.
    fn named(&mut self, name: &Spanned<Arc<str>>, unknown: &'static str, r: &mut Reader<'_>) -> Option<Option<Arc<T>>> {
        if let Some(index) = self.index.get(&name.value) {
            let definition = &mut self.all[*index];
            definition.used = true;
            return Some(definition.value.clone());
        }
        if !r.lost_header {
            let near = near(&name.value, self.all.iter().map(|definition| &*definition.name));
            let (suggestion, or) = near.map(|near| (format!("; did you mean `{near}`?"), "or ")).unwrap_or_default();
            let message = format!("there is no {} `{}`{suggestion}", self.kind, name.value);
            r.found.error(unknown, name.at, message).help(format!("{or}define it: {}", self.header.replace("NAME", &name.value)));
        }
        None
    }

    fn report_unused(&self, r: &mut Reader<'_>) {
        for unused in self.all.iter().filter(|definition| !definition.used) {
            let message = format!("{} `{}` is used by no route", self.kind, unused.name);
            r.found.warning(codes::UNUSED, unused.at, message).help("name it in a route, or take it away");
        }
    }

    fn into_values(self) -> Vec<Arc<T>> {
        self.all.into_iter().filter_map(|definition| definition.value).collect()
    }
}

type Tables<W> = Vec<(Spanned<Arc<str>>, Spanned<W>)>;

/// Reports keys that differ only in case, which headers do not.
fn distinct<T>(named: &Named<T>, r: &mut Reader<'_>) {
    let mut seen: HashMap<String, Span> = HashMap::new();
    for (name, _) in &named.0 {
        if let Some(earlier) = seen.insert(name.to_ascii_lowercase(), name.at) {
            let message = format!("`{}` is written twice; headers do not tell capitals apart", name.value);
            r.found.error(codes::DUPLICATE_KEY, name.at, message).also(earlier);
        }
    }
}

fn place(at: Span, r: &Reader<'_>) -> Place {
    r.documents.place(at)
}
