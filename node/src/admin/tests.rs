use super::*;
use config::Secret;
use http::Request;
use serde_json::json;
use std::time::Duration;

/// A node with three routes, one of which has an id that must be encoded.
struct Scripted(Health);

const ROUTES: [&str; 3] = ["a", "b/{c}", "d"];

impl Look for Scripted {
    fn health(&self) -> Health {
        self.0.clone()
    }

    fn metrics(&self) -> String {
        "shoal_config_info 1\n".into()
    }

    fn route(&self, id: &str) -> Option<Value> {
        ROUTES.contains(&id).then(|| json!({ "id": id }))
    }

    fn routes(&self, after: Option<&str>, count: usize) -> Vec<(String, Value)> {
        ROUTES
            .iter()
            .filter(|id| after.is_none_or(|after| **id > after))
            .take(count)
            .map(|id| ((*id).into(), json!({ "id": id })))
            .collect()
    }

    fn config(&self) -> Value {
        json!({ "revision": "a1f3c9" })
    }

    fn upstreams(&self) -> Value {
        json!([])
    }

    fn drain(&self, service: &str, endpoint: &str, wish: Drain) -> Option<Result<Drained, NotDrained>> {
        let drained = match (endpoint, wish) {
            ("a:1", Drain::Begin { .. }) => Ok(Drained { changed: true, in_flight: 3 }),
            ("a:1", Drain::End) => Ok(Drained { changed: false, in_flight: 0 }),
            ("last@[::1]:1", Drain::Begin { force: false }) => Err(NotDrained::Last),
            ("last@[::1]:1", _) => Ok(Drained { changed: true, in_flight: 0 }),
            ("file:1", Drain::End) => Err(NotDrained::Configured),
            _ => Err(NotDrained::Unknown),
        };
        (service == "shop").then_some(drained)
    }

    fn explain(&self, question: Value) -> Result<Value, String> {
        match question["url"].as_str() {
            Some(url) => Ok(json!({ "verdict": url })),
            None => Err("`url` is missing".into()),
        }
    }

    fn actors(&self) -> Vec<View> {
        ACTORS.map(|(id, kind)| slot(id, kind).view()).into()
    }

    fn actor(&self, id: &Id) -> Option<Found> {
        if *id == Id::written("root/gone") {
            return Some(Found::Gone(slot("root/gone", "pool")));
        }
        ACTORS.iter().find(|(known, _)| *id == Id::written(known)).map(|(id, kind)| Found::Here(slot(id, kind)))
    }

    fn drills_allowed(&self) -> bool {
        self.0.live
    }

    fn drilled(&self, _: &Id, _: &str) {
        unreachable!("nobody lives here who could be drilled");
    }

    fn cluster(&self) -> Option<&dyn Cluster> {
        self.0.live.then_some(self)
    }

    fn leave(&self, _wait: bool) -> String {
        "a".into()
    }
}

/// `a` is the node itself, `b` is alive and `c` is gone.
impl Cluster for Scripted {
    fn members(&self, _now: Instant) -> Vec<Value> {
        [("a", "alive"), ("b", "alive"), ("c", "gone")].map(|(name, seen)| json!({ "name": name, "region": "eu", "seen": seen })).into()
    }

    fn sees(&self, _now: Instant) -> Value {
        json!({ "by": "a", "sees": { "b": "alive" } })
    }

    fn place(&self, member: &str) -> Option<Place> {
        match member {
            "a" => Some(Place::Here),
            "b" | "c" => Some(Place::Elsewhere),
            _ => None,
        }
    }

    fn join(&self, _seed: config::Seed) {}

    fn forget(&self, whom: &Whom) -> Vec<String> {
        match whom {
            Whom::Member(name) => vec![name.clone()],
            Whom::Region(_) => unreachable!("somebody of the only region is alive"),
        }
    }
}

const ACTORS: [(&str, &str); 4] = [("root", "supervisor"), ("root/a", "supervisor"), ("root/a/pool:x:80", "pool"), ("root/b", "shard")];

/// A place where nobody lives.
fn slot(id: &str, kind: &'static str) -> Arc<Slot> {
    enum Nothing {}
    impl ::actors::handles::Message for Nothing {
        fn kind(&self) -> &'static str {
            match *self {}
        }
    }
    ::actors::handles::Mailbox::<Nothing>::new(Id::written(id), kind).slot().clone()
}

fn whole(reply: Reply) -> Response<Bytes> {
    match reply {
        Reply::Whole(response) => response,
        Reply::Actor(slot) => panic!("{} is to be asked", slot.id()),
        Reply::Member(asked) => panic!("{} is to be asked", asked.member),
        Reply::Views => panic!("everybody is to be asked"),
    }
}

fn admin() -> Admin {
    Admin::new(Doors {
        token: Secret::new("right"),
        metrics_open: false,
        callers: Callers { bound: ([127, 0, 0, 1], 9901).into(), names: Vec::new(), tls: false },
    })
}

fn well() -> Scripted {
    Scripted(Health { started: true, live: true, ready: true, failing: Vec::new() })
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost:9901");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn ask(admin: &Admin, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
    whole(admin.answer(&request(method, target, headers), &Body::Whole(body.to_owned().into()), &well(), Instant::now(), "req-1"))
}

const TOKEN: (&str, &str) = ("authorization", "Bearer right");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Asks with the token and says what comes back.
#[track_caller]
fn check(method: &str, target: &str, status: u16, body: &str) {
    let response = ask(&admin(), method, target, &[TOKEN, JSON], "{\"url\":\"/v1\"}");
    assert_eq!(response.status(), status, "{method} {target}");
    let text = String::from_utf8_lossy(response.body());
    assert!(text.contains(body), "{method} {target}: {text}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["x-request-id"], "req-1");
    if status >= 400 {
        let problem: Value = serde_json::from_slice(response.body()).expect("JSON");
        assert_eq!((&problem["status"], &problem["request_id"]), (&json!(status), &json!("req-1")));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[test]
fn pages_answer() {
    check("GET", "/metrics", 200, "shoal_config_info 1\n");
    check("GET", "/livez", 200, "ok\n");
    check("GET", "/routes/a", 200, "{\"id\":\"a\"}\n");
    check("GET", "/v1/routes/b%2F%7Bc%7D", 200, "{\"id\":\"b/{c}\"}");
    check("GET", "/v1/config", 200, "{\"revision\":\"a1f3c9\"}");
    check("GET", "/v1/upstreams", 200, "[]");
    check("POST", "/v1/explain", 200, "{\"verdict\":\"/v1\"}");
}

#[test]
fn what_is_not_there_is_a_problem() {
    check("GET", "/routes/x%22", 404, "\"detail\":\"no route has the id `x\\\"`; /v1/routes lists them\"");
    check("GET", "/routes/%ff", 400, "E9007");
    check("GET", "/v1/secrets", 404, "there is no such page");
    check("GET", "/v1/routes?limit=x", 400, "`limit` is a number from 1 to 500");
    check("GET", "/v1/config?dry=1", 400, "`dry` is not known here");
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    for (method, target, allowed) in [
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/routes/a", "GET, HEAD"),
        ("OPTIONS", "/v1/config", "GET, HEAD"),
        ("GET", "/v1/explain", "POST"),
        ("POST", "/livez", "GET, HEAD"),
    ] {
        let response = ask(&admin(), method, target, &[TOKEN], "");
        assert_eq!((response.status(), &response.headers()["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static(allowed)));
    }
}

#[test]
fn head_tells_the_length_and_sends_nothing() {
    for target in ["/metrics", "/livez", "/routes/a", "/v1/routes", "/v1/config", "/v1/upstreams", "/v1/secrets"] {
        let (get, head) = (ask(&admin(), "GET", target, &[TOKEN], ""), ask(&admin(), "HEAD", target, &[TOKEN], ""));
        assert_eq!((head.status(), head.body().len()), (get.status(), 0));
        assert_eq!(head.headers()["content-length"], get.body().len().to_string().as_str());
        assert_eq!(head.headers().get("etag"), get.headers().get("etag"));
    }
}

#[test]
fn whoever_has_the_content_is_not_sent_it_again() {
    for target in ["/routes/a", "/v1/routes", "/v1/config", "/v1/upstreams"] {
        let tag = ask(&admin(), "GET", target, &[TOKEN], "").headers()["etag"].to_str().expect("ASCII").to_owned();
        let again = ask(&admin(), "GET", target, &[TOKEN, ("if-none-match", &tag)], "");
        assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(again.headers()["etag"], tag);
    }
}

#[test]
fn pages_of_a_list_follow_each_other() {
    let mut target = "/v1/routes?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let response = ask(&admin(), "GET", &target, &[TOKEN], "");
        let list: Value = serde_json::from_slice(response.body()).expect("JSON");
        seen.push(list["items"].as_array().expect("a list").iter().map(|item| item["id"].clone()).collect::<Vec<_>>());
        let Some(cursor) = list["next"].as_str() else {
            assert!(!response.headers().contains_key("link"));
            break;
        };
        target = format!("/v1/routes?limit=2&cursor={cursor}");
        assert_eq!(response.headers()["link"], format!("<{target}>; rel=\"next\""));
    }
    assert_eq!(seen, [vec!["a", "b/{c}"], vec!["d"]]);
}

/// The ids that a question about actors is answered with.
fn ids(target: &str) -> Vec<String> {
    let response = ask(&admin(), "GET", target, &[TOKEN], "");
    let list: Value = serde_json::from_slice(response.body()).expect("JSON");
    list["items"].as_array().expect("a list").iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn actors_are_listed_by_place_depth_and_kind() {
    assert_eq!(ids("/v1/actors"), ["root", "root/a", "root/a/pool:x:80", "root/b"]);
    assert_eq!(ids("/v1/actors?depth=1"), ["root", "root/a", "root/b"]);
    assert_eq!(ids("/v1/actors?under=root%2Fa"), ["root/a", "root/a/pool:x:80"]);
    assert_eq!(ids("/v1/actors?under=root%2Fa&depth=0"), ["root/a"]);
    assert_eq!(ids("/v1/actors?kind=pool"), ["root/a/pool:x:80"]);
    assert_eq!(ids("/v1/actors?kind=actor"), Vec::<String>::new());
    assert_eq!(ids("/v1/actors?under=a"), ids("/v1/actors?under=root%2Fa"), "the root may be left out");
    check("GET", "/v1/actors?under=root%2Fc", 404, "E9017");
    let first = ask(&admin(), "GET", "/v1/actors?depth=1&limit=2&under=root", &[TOKEN], "");
    let link = first.headers()["link"].to_str().expect("ASCII").to_owned();
    let next = link.strip_prefix('<').and_then(|link| link.split('>').next()).expect("a link");
    assert_eq!(ids(next), ["root/b"]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn an_actor_is_asked_and_shown_with_what_it_says() {
    let head = request("GET", "/v1/actors/root%2Fa%2Fpool:x:80", &[TOKEN]);
    let (admin, now) = (admin(), Instant::now());
    let Reply::Actor(slot) = admin.answer(&head, &Body::Whole(Bytes::new()), &well(), now, "req-1") else { panic!("it is not asked") };
    let told = |state| {
        let response = admin.tell(&head, &slot, &state, now, "req-1");
        assert_eq!(response.headers()["cache-control"], "no-store");
        serde_json::from_slice::<Value>(response.body()).expect("JSON")
    };
    let fresh = told(Snapshot::Fresh(Arc::new(json!({ "idle": 3 }))));
    assert_eq!((&fresh["id"], &fresh["kind"], &fresh["inside"]["idle"]), (&json!("root/a/pool:x:80"), &json!("pool"), &json!(3)));
    let stale = told(Snapshot::Stale(Some((now, Arc::new(json!({ "idle": 2 }))))));
    assert_eq!((&stale["inside"], &stale["told_last"]["inside"]["idle"]), (&Value::Null, &json!(2)));
}

#[test]
fn who_is_not_in_the_tree_is_told_apart_from_who_was() {
    check("GET", "/v1/actors/root%2Fc", 404, "E9017");
    check("GET", "/v1/actors/root%2Fc/history", 404, "E9017");
    check("GET", "/v1/actors/root%2Fgone", 410, "E9018");
    check("GET", "/v1/actors/root%2Fgone/history", 410, "E9018");
    check("GET", "/v1/actors/root%2Fb/history", 200, "\"lives\":[]");
    check("GET", "/v1/actors/b/history", 200, "\"id\":\"root/b\"");
}

#[test]
fn a_drill_needs_leave_an_actor_and_somebody_there() {
    let drill = |body: &str| {
        let response = ask(&admin(), "POST", "/v1/drills", &[TOKEN, JSON], body);
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    };
    let check = |body: &str, status: u16, code: &str| {
        let (answered, said) = drill(body);
        assert!(answered == status && said.contains(code), "{body}: {said}");
    };
    check("{\"actor\":\"root\",\"do\":\"kill\"}", 409, "wait until it runs again");
    check("{\"actor\":\"b\",\"do\":\"kill\"}", 409, "`root/b` is waiting, because `root` above it is waiting; wait until that runs");
    check("{\"actor\":\"root/b\",\"do\":\"kill\"}", 409, "E9019");
    check("{\"actor\":\"root/c\",\"do\":\"kill\"}", 404, "E9017");
    check("{\"actor\":\"root/gone\",\"do\":\"kill\"}", 410, "E9018");
    check("{\"actor\":\"root/b\"}", 422, "E9015");

    let forbids = Scripted(Health::default());
    let head = request("POST", "/v1/drills", &[TOKEN, JSON]);
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let refused = whole(admin().answer(&head, &Body::Whole("{}".into()), &forbids, Instant::now(), "req-1"));
    assert_eq!(refused.status(), 403);
    assert!(String::from_utf8_lossy(refused.body()).contains("[drills] allow = true"));
}

#[test]
fn members_are_listed_and_looked_up() {
    check("GET", "/v1/members", 200, "\"name\":\"c\"");
    check("GET", "/v1/members?limit=2", 200, "{\"items\":[{\"name\":\"a\",\"region\":\"eu\",\"seen\":\"alive\"},{\"name\":\"b\"");
    check("GET", "/v1/members?limit=2&cursor=62", 200, "{\"items\":[{\"name\":\"c\",\"region\":\"eu\",\"seen\":\"gone\"}],\"next\":null}");
    check("GET", "/v1/members/b", 200, "\"name\":\"b\"");
    check("GET", "/v1/members/d", 404, "E9031");
    check("GET", "/v1/sees", 200, "\"b\":\"alive\"");
    check("GET", "/v1/members/a/views", 404, "E9008");
    check("GET", "/v1/members/a/config", 200, "{\"revision\":\"a1f3c9\"}");
    check("GET", "/v1/members/a/secrets", 404, "E9008");
    check("GET", "/v1/members/a/members/b", 404, "E9008");
    check("POST", "/v1/members/b/drills", 405, "E9010");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn a_page_of_another_member_is_asked_for_and_whoever_is_silent_is_named() {
    let head = request("GET", "/v1/members/c/actors?limit=2", &[TOKEN]);
    let asked = match admin().answer(&head, &Body::Whole(Bytes::new()), &well(), Instant::now(), "req-1") {
        Reply::Member(asked) => asked,
        _ => panic!("only c knows its actors"),
    };
    assert_eq!(asked, Asked { member: "c".into(), path: "/v1/actors".into(), query: "limit=2".into() });
    let told = Told::Unreachable { why: "no link leads there".into(), gone: Some(Duration::from_secs(12)) };
    let response = admin().relay(&head, &asked, told, "req-1");
    assert_eq!(response.status(), 504);
    assert!(String::from_utf8_lossy(response.body()).contains("`c` did not answer: no link leads there; not seen for 12 s"));
    let told = Told::Answer { status: 404, content_type: "application/problem+json".into(), body: "{}".into() };
    let response = admin().relay(&head, &asked, told, "req-1");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (404, &HeaderValue::from_static("application/problem+json"))
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn a_peer_reads_what_an_operator_reads_and_orders_nothing() {
    let ask = |path: &str| match members::answer_peer(path, "", &well(), Instant::now(), "req-1") {
        Reply::Whole(response) => response.status().as_u16(),
        _ => panic!("nobody else has to be asked"),
    };
    assert_eq!(["/v1/config", "/v1/upstreams", "/v1/members"].map(ask), [200; 3]);
    assert_eq!(["/v1/leave", "/v1/drills", "/v1/members/forget", "/v1/members/join"].map(ask), [405; 4]);
    assert_eq!(["/v1/members/b/config", "/v1/views", "/v1/secrets"].map(ask), [404; 3]);
    assert_eq!(ask("not a path"), 400);
}

#[test]
fn only_who_is_gone_is_forgotten() {
    let check = |body: &str, status: u16, said: &str| {
        let response = ask(&admin(), "POST", "/v1/members/forget", &[TOKEN, JSON], body);
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(response.status() == status && text.contains(said), "{body}: {text}");
    };
    check("{\"name\":\"c\"}", 202, "{\"forgotten\":[\"c\"]}");
    check("{\"name\":\"b\"}", 409, "still alive: b; each can be told to leave");
    check("{\"region\":\"eu\"}", 409, "still alive: a, b; each can be told to leave");
    check("{\"name\":\"d\"}", 404, "E9031");
    check("{\"name\":\"c\",\"region\":\"eu\"}", 422, "either `name` or `region`");
    check("{}", 422, "either `name` or `region`");
}

#[test]
fn an_endpoint_is_taken_out_and_back_by_an_order() {
    let order = |path: &str, body: &str| {
        let response = ask(&admin(), "POST", &format!("/v1/upstreams/{path}"), &[TOKEN, JSON], body);
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    };
    for (path, body, status, said) in [
        ("shop/endpoints/a:1/drain", "{}", 200, "\"active_requests\":3,\"changed\":true,\"draining\":true"),
        ("shop/endpoints/a:1/drain", "{\"force\":true}", 200, "\"draining\":true"),
        ("shop/endpoints/a:1/undrain", "{}", 200, "\"changed\":false,\"draining\":false"),
        ("shop/endpoints/last%40%5B::1%5D:1/drain", "{}", 409, "E9022"),
        ("shop/endpoints/last%40%5B::1%5D:1/drain", "{\"force\":false}", 409, "insist with `force`"),
        ("shop/endpoints/last%40%5B::1%5D:1/drain", "{\"force\":true}", 200, "\"changed\":true"),
        ("shop/endpoints/file:1/undrain", "{}", 409, "E9023"),
        ("shop/endpoints/b:1/drain", "{}", 404, "E9021"),
        ("shed/endpoints/a:1/drain", "{}", 404, "E9020"),
        ("shop/endpoints/a:1/drain", "[]", 422, "E9015"),
        ("shop/endpoints/a:1/drain", "{\"force\":1}", 422, "`force` is true or false"),
        ("shop/endpoints/a:1/drain", "{\"forse\":true}", 422, "`forse` is not known"),
        ("shop/endpoints/a:1/undrain", "{\"force\":true}", 422, "E9015"),
        ("shop/endpoints/a:1/drain?force=true", "{}", 400, "E9011"),
        ("shop/endpoints/a:1", "{}", 404, "E9008"),
    ] {
        let (answered, text) = order(path, body);
        assert!(answered == status && text.contains(said), "{path} {body}: {answered} {text}");
    }
    let target = "/v1/upstreams/shop/endpoints/a:1/drain";
    assert_eq!(ask(&admin(), "GET", target, &[TOKEN], "").headers()["allow"], "POST");
    assert_eq!(ask(&admin(), "POST", target, &[JSON], "{}").status(), 401);
    assert_eq!(ask(&admin(), "POST", target, &[TOKEN], "{}").status(), 415);
}

#[test]
fn without_the_token_there_is_health_and_nothing_else() {
    for target in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(ask(&admin(), "GET", target, &[], "").status(), 200);
    }
    for target in [
        "/metrics",
        "/routes/a",
        "/v1/routes",
        "/v1/config",
        "/v1/explain",
        "/v1/actors",
        "/v1/drills",
        "/v1/members",
        "/v1/members/a/config",
        "/v1/views",
        "/v1/leave",
        "/v1/secrets",
        "/",
    ] {
        for (headers, code) in [(&[][..], "E9004"), (&[("authorization", "Bearer wrong")], "E9005")] {
            let response = ask(&admin(), "GET", target, headers, "");
            assert_eq!(response.status(), 401, "{target}");
            assert!(response.headers()["www-authenticate"].as_bytes().starts_with(b"Bearer"));
            assert!(String::from_utf8_lossy(response.body()).contains(code));
        }
    }
}

#[test]
fn metrics_may_be_open() {
    let admin = Admin::new(Doors { metrics_open: true, ..admin().doors });
    assert_eq!(ask(&admin, "GET", "/metrics", &[], "").status(), 200);
    assert_eq!(ask(&admin, "GET", "/v1/config", &[], "").status(), 401);
}

#[test]
fn another_site_gets_nothing() {
    let evil = ("origin", "https://evil.example");
    assert_eq!(ask(&admin(), "POST", "/v1/explain", &[TOKEN, JSON, evil], "{}").status(), 403);
    assert_eq!(ask(&admin(), "GET", "/v1/config", &[TOKEN, ("origin", "http://localhost:9901")], "").status(), 200);

    let mut rebound = request("GET", "/v1/config", &[TOKEN]);
    rebound.headers.insert("host", HeaderValue::from_static("evil.example:9901"));
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    let body = Body::Whole(Bytes::new());
    assert_eq!(whole(admin().answer(&rebound, &body, &well(), now, "req-1")).status(), 421);
    let mut probe = request("GET", "/readyz", &[]);
    probe.headers.insert("host", HeaderValue::from_static("10.1.2.3:9901"));
    assert_eq!(whole(admin().answer(&probe, &body, &well(), now, "req-1")).status(), 200);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn guessing_slows_the_guesser_only() {
    let (admin, start) = (admin(), Instant::now());
    let status = |token: &str, second| {
        let head = request("GET", "/v1/config", &[("authorization", token)]);
        let response = whole(admin.answer(&head, &Body::Whole(Bytes::new()), &well(), start + Duration::from_secs(second), "req-1"));
        let wait = response.headers().get("retry-after").map(|wait| wait.to_str().expect("ASCII").to_owned());
        (response.status().as_u16(), wait)
    };
    for _ in 0..10 {
        assert_eq!(status("Bearer wrong", 0), (401, None));
    }
    assert_eq!(status("Bearer wrong", 1), (429, Some("59".into())));
    assert_eq!(status("Bearer right", 1), (200, None));
    assert_eq!(status("Bearer wrong", 60), (401, None));
}

#[test]
fn a_question_must_be_json_and_short() {
    let explain = |headers: &[(&str, &str)], body: &str| ask(&admin(), "POST", "/v1/explain", headers, body).status().as_u16();
    assert_eq!(explain(&[TOKEN], "{}"), 415);
    assert_eq!(explain(&[TOKEN, ("content-type", "text/plain")], "{}"), 415);
    assert_eq!(explain(&[TOKEN, ("content-type", "application/JSON ; charset=utf-8")], "{\"url\":\"/\"}"), 200);
    assert_eq!(explain(&[TOKEN, JSON], "{"), 400);
    assert_eq!(explain(&[TOKEN, JSON], "{}"), 422);
    assert_eq!(explain(&[TOKEN, JSON], &" ".repeat(BODY_MAX + 1)), 413);

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    let unread = whole(admin().answer(&request("POST", "/v1/explain", &[TOKEN, JSON]), &Body::TooLarge, &well(), now, "req-1"));
    assert_eq!(unread.status(), 413);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn what_is_failing_is_told_to_those_who_may_know() {
    let look = Scripted(Health { started: true, live: true, ready: false, failing: vec!["draining".into()] });
    let body = |target, headers: &[_]| {
        let response = whole(admin().answer(&request("GET", target, headers), &Body::Whole(Bytes::new()), &look, Instant::now(), "req-1"));
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    };
    assert_eq!(body("/livez", &[]), (200, "ok\n".into()));
    assert_eq!(body("/readyz", &[]), (503, "not ready\n".into()));
    assert_eq!(body("/readyz", &[("authorization", "Bearer wrong")]), (503, "not ready\n".into()));
    assert_eq!(body("/readyz", &[TOKEN]), (503, "not ready\ndraining\n".into()));
    assert_eq!(body("/startupz", &[TOKEN]), (200, "ok\ndraining\n".into()));
}

#[test]
fn a_public_listener_answers_health_only() {
    let public = |method, target| health(&request(method, target, &[TOKEN]), &well().0).map(|response| response.status().as_u16());
    assert_eq!(public("GET", "/readyz"), Some(200));
    assert_eq!(public("HEAD", "/livez"), Some(200));
    assert_eq!(public("POST", "/livez"), None);
    assert_eq!(public("GET", "/metrics"), None);
}
