//! Which endpoint is asked.

use shoal_tests::{Caller, Gateway, Origin, get, request, wait::until};

async fn three(keys: &str, weights: [u32; 3]) -> (Gateway, [Origin; 3]) {
    let origins = [Origin::saying("200 OK", "0").await, Origin::saying("200 OK", "1").await, Origin::saying("200 OK", "2").await];
    let endpoints: Vec<String> =
        origins.iter().zip(weights).map(|(origin, weight)| format!("{{ url = \"{}\", weight = {weight} }}", origin.url())).collect();
    let text = format!("[service.up]\nendpoints = [{}]\n{keys}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n", endpoints.join(", "));
    (Gateway::start(&text).await, origins)
}

fn counts(origins: &[Origin; 3]) -> [usize; 3] {
    origins.each_ref().map(Origin::count)
}

#[tokio::test]
async fn in_turn_means_in_turn() {
    let (gateway, origins) = three("balance = \"round_robin\"", [1, 1, 1]).await;
    for _ in 0..30 {
        get(gateway.main(), "/").await;
    }
    assert_eq!(counts(&origins), [10, 10, 10]);
}

#[tokio::test]
async fn weights_are_shares() {
    let (gateway, origins) = three("balance = \"round_robin\"", [4, 2, 0]).await;
    for _ in 0..60 {
        get(gateway.main(), "/").await;
    }
    assert_eq!(counts(&origins), [40, 20, 0]);
}

#[tokio::test]
async fn every_balance_asks_every_endpoint_and_none_of_weight_zero() {
    for balance in ["peak_ewma", "round_robin", "least_requests"] {
        let (gateway, origins) = three(&format!("balance = \"{balance}\""), [1, 1, 0]).await;
        let mut caller = Caller::connect(gateway.main()).await;
        for _ in 0..60 {
            assert_eq!(caller.get("/").await.status, 200);
        }
        let counts = counts(&origins);
        assert!(counts[0] > 0 && counts[1] > 0 && counts[2] == 0, "{balance}: {counts:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_busy_is_asked_less() {
    for balance in ["peak_ewma", "least_requests"] {
        let stuck = Origin::start(|exchange| Box::pin(exchange.silence())).await;
        let free = Origin::ok().await;
        let text = format!(
            "[service.up]\nendpoints = [\"{}\", \"{}\"]\nbalance = \"{balance}\"\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
            stuck.url(),
            free.url()
        );
        let gateway = Gateway::start(&text).await;
        // Some get stuck; each makes it less likely that another one does.
        let mut callers = Vec::new();
        for _ in 0..40 {
            let mut caller = Caller::connect(gateway.main()).await;
            let before = (stuck.count(), free.count());
            caller.send(request("GET /", &[], "")).await;
            until("one of both to be asked", || (stuck.count(), free.count()) != before).await;
            callers.push(caller);
        }
        assert!(stuck.count() <= 10, "{balance}: {} of 40 got stuck", stuck.count());
    }
}

#[tokio::test]
async fn the_same_key_goes_to_the_same_endpoint() {
    let (gateway, origins) = three("balance = { hash = \"header:x-user\" }", [1, 1, 1]).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let mut first = Vec::new();
    for user in 0..30 {
        first.push(caller.ask(request("GET /", &[&format!("x-user: {user}")], "")).await.text());
    }
    for _ in 0..3 {
        for (user, expected) in first.iter().enumerate() {
            let again = caller.ask(request("GET /", &[&format!("x-user: {user}")], "")).await.text();
            assert_eq!(&again, expected, "user {user}");
        }
    }
    assert!(counts(&origins).into_iter().all(|count| count > 0), "{:?}", counts(&origins));
    // The same on another node.
    let urls: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.url())).collect();
    let text = format!(
        "[service.up]\nendpoints = [{}]\nbalance = {{ hash = \"header:x-user\" }}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        urls.join(", ")
    );
    let other = Gateway::start(&text).await;
    let mut caller = Caller::connect(other.main()).await;
    for (user, expected) in first.iter().enumerate() {
        assert_eq!(&caller.ask(request("GET /", &[&format!("x-user: {user}")], "")).await.text(), expected, "user {user}");
    }
}

#[tokio::test]
async fn a_popular_key_spills_over_before_it_drowns_its_endpoint() {
    let origins = [
        Origin::start(|exchange| Box::pin(exchange.silence())).await,
        Origin::start(|exchange| Box::pin(exchange.silence())).await,
        Origin::start(|exchange| Box::pin(exchange.silence())).await,
    ];
    let urls: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.url())).collect();
    let text = format!(
        "[service.up]\nendpoints = [{}]\nbalance = {{ hash = \"header:x-user\", bound = 1.5 }}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        urls.join(", ")
    );
    let gateway = Gateway::start(&text).await;
    let mut callers = Vec::new();
    for count in 1..=30 {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("GET /", &["x-user: popular"], "")).await;
        until("the request", || counts(&origins).iter().sum::<usize>() == count).await;
        callers.push(caller);
    }
    let counts = counts(&origins);
    // Half as much again as a fair share of ten, and one that is rounded up.
    assert!(counts.iter().all(|count| *count <= 16) && counts.iter().max() > Some(&10), "{counts:?}");
}
