//! The same promises, kept to programs that people really use.

use shoal_tests::{
    Gateway, Origin,
    certificates::Authority,
    gateway::whole,
    in_front_of,
    peers::{printed, run},
};

/// Listeners `main` and `secure`, and the arguments that make curl trust the second.
async fn both(authority: &Authority, origin: &Origin) -> Gateway {
    let files = authority.issue("gateway", &["localhost", "127.0.0.1"]);
    let secure = format!("[listen.secure]\nbind = \"127.0.0.1:0\"\ntls = {}\n", files.toml());
    let main = "[listen.main]\nbind = \"127.0.0.1:0\"\n";
    Gateway::start(&whole(&(main.to_string() + &secure + &in_front_of(&origin.url(), "max_body = \"unlimited\"")))).await
}

#[tokio::test]
async fn curl_is_served_over_every_protocol() {
    let (authority, origin) = (Authority::new(), Origin::echo().await);
    let gateway = both(&authority, &origin).await;
    let plain = format!("http://{}/p", gateway.main());
    let secure = format!("https://{}/p", gateway.listener("secure"));
    let ca = authority.file().display().to_string();
    for (arguments, version) in [
        (vec!["--http1.1", plain.as_str()], "1.1"),
        (vec!["--http2-prior-knowledge", plain.as_str()], "2"),
        (vec!["--http1.1", "--cacert", ca.as_str(), secure.as_str()], "1.1"),
        (vec!["--http2", "--cacert", ca.as_str(), secure.as_str()], "2"),
    ] {
        let common = ["-sS", "-m", "10", "-d", "hello", "-w", " %{http_version} %{http_code}"];
        let Some(output) = run("curl", &[&common[..], &arguments].concat()).await else { return };
        assert_eq!(printed(&output), format!("hello {version} 200"), "{arguments:?}");
    }
}

#[tokio::test]
async fn curl_uploads_and_downloads_without_a_byte_lost() {
    let (authority, origin) = (Authority::new(), Origin::echo().await);
    let gateway = both(&authority, &origin).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    let content: Vec<u8> = (0..5_000_000_usize).map(|at| (at * 131 + at / 257) as u8).collect();
    std::fs::write(&up, &content).expect("a file");
    let (secure, ca) = (format!("https://{}/f", gateway.listener("secure")), authority.file().display().to_string());
    for protocol in ["--http1.1", "--http2"] {
        let (up, down) = (up.display().to_string(), down.display().to_string());
        let Some(output) = run("curl", &["-sS", "-m", "30", protocol, "--cacert", &ca, "-T", &up, "-o", &down, &secure]).await else {
            return;
        };
        printed(&output);
        assert!(std::fs::read(&down).expect("a file") == content, "{protocol}");
    }
}

#[tokio::test]
async fn curl_reads_why_a_large_upload_is_refused() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "max_body = \"1KiB\"")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large");
    std::fs::write(&file, vec![b'x'; 2 << 20]).expect("a file");
    let data = format!("@{}", file.display());
    for expect in ["Expect:", "Expect: 100-continue"] {
        let url = format!("http://{}/", gateway.main());
        let arguments = ["-sS", "-m", "10", "-H", expect, "--data-binary", &data, "-w", "%{http_code}", "-o", "/dev/null", &url];
        let Some(output) = run("curl", &arguments).await else { return };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "413", "{expect}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn curl_sees_trailers() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange
                .say("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n")
                .await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let url = format!("http://{}/", gateway.main());
    let Some(output) = run("curl", &["-sS", "-m", "10", "-D", "-", "-H", "TE: trailers", &url]).await else { return };
    let text = printed(&output);
    assert!(text.contains("x-sum: 42"), "{text}");
}

#[tokio::test]
async fn nghttp_is_served() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let url = format!("http://{}/", gateway.main());
    let Some(output) = run("nghttp", &["-nv", "-t", "10", "-m", "20", &url]).await else { return };
    let text = printed(&output);
    assert!(text.contains(":status: 200"), "{text}");
    assert_eq!(origin.count(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_meets_no_failure() {
    let (authority, origin) = (Authority::new(), Origin::ok().await);
    let gateway = both(&authority, &origin).await;
    let (plain, secure) = (format!("http://{}/", gateway.main()), format!("https://{}/", gateway.listener("secure")));
    for arguments in [
        &["-n", "1000", "-c", "10", "-m", "20", &plain][..],
        &["--h1", "-n", "1000", "-c", "10", &plain],
        &["-n", "500", "-c", "10", "-m", "20", &secure],
    ] {
        let Some(output) = run("h2load", arguments).await else { return };
        let text = printed(&output);
        assert!(text.contains(" 0 failed, 0 errored, 0 timeout"), "{arguments:?}: {text}");
        assert!(text.contains(" 0 3xx, 0 4xx, 0 5xx"), "{arguments:?}: {text}");
    }
}
