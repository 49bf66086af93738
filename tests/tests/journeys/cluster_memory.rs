//! What a node remembers is lost sooner than a request.

use shoal_tests::{
    Origin,
    cluster::{Cluster, Node, all_see_all, together},
    get, in_front_of,
};
use std::{fs, time::Duration};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn serves(node: &Node) {
    assert_eq!(get(node.main(), "/").await.status, 200, "{}", node.name);
}

#[tokio::test]
async fn a_node_serves_without_anywhere_to_remember() {
    let origin = Origin::ok().await;
    let cluster = Cluster::new();
    let founder = cluster.founder("a", "eu");
    let token = cluster.token(&founder, "eu", HOUR);
    let a = founder.start().await;
    let nowhere = cluster.seat("b", "eu").remembers_in(None).with_token(token).with(&in_front_of(&origin.url(), "")).joins(&a);
    let b = nowhere.start().await;
    serves(&b).await;
    all_see_all(&[&a, &b]).await;
    assert_eq!(b.metric("shoal_cluster_memory_trouble").await, 1.0);
    assert_eq!(a.metric("shoal_cluster_memory_trouble").await, 0.0);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_keeps_no_node_from_serving() {
    let origin = Origin::ok().await;
    let cluster = Cluster::new();
    let founder = cluster.founder("a", "eu");
    let token = cluster.token(&founder, "eu", HOUR);
    let a = founder.start().await;
    // A folder that is none stands for one that is read-only, which nothing is for whoever runs as root.
    let seat = cluster.seat("b", "eu");
    let blocked = seat.state_dir().join("file");
    fs::write(&blocked, "not a folder").expect("a file");
    let seat = seat.remembers_in(Some(blocked.join("state"))).with_token(token).with(&in_front_of(&origin.url(), "")).joins(&a);
    let b = seat.start().await;
    serves(&b).await;
    all_see_all(&[&a, &b]).await;
    assert_eq!(b.metric("shoal_cluster_memory_trouble").await, 1.0);
}

#[tokio::test]
async fn what_is_remembered_and_damaged_is_left_as_it_is_and_the_node_joins_anew() {
    let origin = Origin::ok().await;
    let cluster = Cluster::new();
    let ([founder, seat], [a, b]) = together([cluster.founder("a", "eu"), cluster.enrolled("b", "eu")]).await;
    b.kill().await;
    let file = seat.state_dir().join("node.redb");
    let sound = fs::read(&file).expect("it remembers");
    let half = sound[..sound.len() / 2].to_vec();
    let noise: Vec<u8> = sound.iter().enumerate().map(|(at, byte)| if at % 7 == 0 { !byte } else { *byte }).collect();
    for damaged in [&b"noise"[..], &noise, &vec![0; sound.len()], &half] {
        fs::write(&file, damaged).expect("a file");
        let error = cluster.seat("b", "eu").try_start().await.err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains("shoal cluster token")), "{error:?}");
        assert_eq!(fs::read(&file).expect("it is there"), damaged);
    }
    a.until_sees(&[("a", "alive"), ("b", "gone")]).await;
    let token = cluster.token(&founder, "eu", HOUR);
    let again = cluster.seat("b", "eu").with_token(token).with(&in_front_of(&origin.url(), "")).joins(&a);
    let b = again.start().await;
    serves(&b).await;
    all_see_all(&[&a, &b]).await;
    assert_eq!(b.metric("shoal_cluster_memory_trouble").await, 1.0);
    b.kill().await;
    assert_eq!(fs::read(&file).expect("it is there"), half, "somebody may want to save something from it");
}

#[tokio::test]
async fn two_nodes_do_not_remember_in_one_folder() {
    let cluster = Cluster::new();
    let seat = cluster.enrolled("a", "eu");
    let a = seat.start().await;
    let error = seat.try_start().await.err().expect("it does not start").to_string();
    assert!(error.contains("node.lock") || error.contains("another"), "{error}");
    a.kill().await;
    seat.start().await;
}
