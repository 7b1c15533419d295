//! Other people's web pages, and proxies: who is answered, who is believed, what browsers are told.

use std::io::{Read, Write};

use serde_json::Value;

use crate::support::{Answer, Daemon, Start};

/// Sends a request as it stands, but for line ends, and reads the answer to its end.
fn raw(daemon: &Daemon, request: &str) -> Answer {
    let mut connection = daemon.connect();
    connection.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

fn get(daemon: &Daemon, path: &str, headers: &str) -> Answer {
    raw(daemon, &format!("GET {path} HTTP/1.1\nConnection: close\n{headers}\n"))
}

/// PATCH of a setting with a JSON body.
fn patch(daemon: &Daemon, headers: &str) -> Answer {
    let body = r#"{"quality": 50}"#;
    let length = body.len();
    raw(
        daemon,
        &format!("PATCH /api/v1/settings HTTP/1.1\nConnection: close\nContent-Length: {length}\n{headers}\n{body}"),
    )
}

/// What is wrong, by JSON or text.
fn reason(answer: &Answer) -> String {
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(document) => document["error"].as_str().unwrap().to_owned(),
        Err(_) => answer.text(),
    }
}

const PATHS: [&str; 9] = [
    "/",
    "/stream",
    "/webcam/?action=stream",
    "/snapshot",
    "/api/v1/status",
    "/api/v1/controls",
    "/api/v1/diagnostics",
    "/metrics",
    "/nothing",
];

#[test]
fn a_name_of_somebody_elses_is_answered_nowhere() {
    let daemon = Start::test_pattern().spawn();
    for path in PATHS {
        for host in ["evil.example", "pinhole.local.evil.example:8080", "", "a b", "user@pinhole.local"] {
            let answer = get(&daemon, path, &format!("Host: {host}\n"));
            assert_eq!(answer.status, 421, "{path} of {host:?}");
            assert!(reason(&answer).contains("Host"), "{}", reason(&answer));
        }
    }
    let text = reason(&get(&daemon, "/", "Host: evil.example:8080\n"));
    assert!(text.contains("evil.example:8080") && text.contains("http.allowed_hosts"), "{text}");
    // Before anything else could be found wrong.
    let body = "Content-Length: 3\nContent-Type: text/plain\nOrigin: http://evil.example\n\nabc";
    for method in ["PATCH", "POST", "OPTIONS", "DELETE", "BREW"] {
        let request =
            format!("{method} /api/v1/settings?fps=0 HTTP/1.1\nHost: evil.example\nConnection: close\n{body}");
        assert_eq!(raw(&daemon, &request).status, 421, "{method}");
    }
    let large = "PATCH /api/v1/settings HTTP/1.1\nHost: evil.example\nContent-Length: 1000000\n\n";
    assert_eq!(raw(&daemon, large).status, 421);
    assert_eq!(raw(&daemon, "CONNECT evil.example:80 HTTP/1.1\nHost: evil.example:80\n\n").status, 421);
    let close = "Connection: close\n\n";
    for (request, status) in [
        ("GET http://evil.example/snapshot HTTP/1.1\nHost: pinhole.local\n", 421),
        ("GET http://pinhole.local/snapshot HTTP/1.1\nHost: evil.example\n", 421),
        ("GET http://evil.example/snapshot HTTP/1.0\n", 421),
        ("GET http://pinhole.local:80/snapshot HTTP/1.1\nHost: 192.0.2.1\n", 200),
        ("GET /snapshot HTTP/1.1\n", 400),
        ("GET /snapshot HTTP/1.0\n", 200),
        ("GET /snapshot HTTP/1.0\nHost: evil.example\n", 421),
        ("GET /snapshot HTTP/1.0\nHost: camera\n", 200),
        ("GET /snapshot HTTP/1.1\nHost: [fe80::1%25eth0]:8080\n", 200),
        ("GET /snapshot HTTP/1.1\nHost: PinHole.Local.:8080\n", 200),
        // Nobody's word on the host counts instead of the host.
        (
            "GET /snapshot HTTP/1.1\nHost: evil.example\nX-Forwarded-Host: pinhole.local\nForwarded: host=pinhole.local\n",
            421,
        ),
    ] {
        assert_eq!(raw(&daemon, &format!("{request}{close}")).status, status, "{request}");
    }
}

#[test]
fn names_of_ones_own_are_allowed_by_the_configuration() {
    let hosts = "http.allowed_hosts=[cam.example.com, \"*.home.example\"]";
    let daemon = Start::test_pattern().set(hosts).spawn();
    for (host, status) in [
        ("CAM.example.com:443", 200),
        ("a.b.home.example", 200),
        ("home.example", 421),
        ("example.com", 421),
        ("cam.example.com.evil.example", 421),
        ("pinhole.local", 200),
    ] {
        assert_eq!(get(&daemon, "/snapshot", &format!("Host: {host}\n")).status, status, "{host}");
    }
    let daemon = Start::test_pattern().set("http.allowed_hosts=*").spawn();
    for headers in ["Host: evil.example\n", "Host: \n", "Host: a b\n"] {
        assert_eq!(get(&daemon, "/healthz", headers).status, 200, "{headers:?}");
    }
}

#[test]
fn the_machines_names_are_its_own_in_domains_that_the_network_gave() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("unique-name"), "pinhole-1a2b\n").unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "search corp.example\n").unwrap();
    let daemon = Start::test_pattern()
        .environment("PINHOLE_RUN", folder.path())
        .environment("PINHOLE_RESOLV_CONF", &resolv_conf)
        .spawn();
    let status = |host: &str| get(&daemon, "/healthz", &format!("Host: {host}\n")).status;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = name.trim().split('.').next().unwrap();
    assert_eq!(status("pinhole-1a2b.corp.example"), 200);
    assert_eq!(status(&format!("{name}.corp.example:8080")), 200);
    assert_eq!(status("other.corp.example"), 421);
    assert_eq!(status("pinhole-1a2b.evil.example"), 421);
    // Another lease, another domain.
    std::fs::write(&resolv_conf, "domain isp.example\n").unwrap();
    assert_eq!(status("pinhole-1a2b.isp.example"), 200);
    assert_eq!(status("pinhole-1a2b.corp.example"), 421);
}

#[test]
fn only_trusted_proxies_are_believed() {
    let headers = "Host: 127.0.0.1:8080\nX-Forwarded-For: 198.51.100.7, 203.0.113.9\nX-Forwarded-Host: cam.example.com\n\
                   X-Forwarded-Proto: https\nContent-Type: application/json\nOrigin: https://cam.example.com\n";
    let peer = |daemon: &Daemon, forwarded: &str| {
        let mut connection = daemon.connect();
        let request = format!("GET /stream HTTP/1.1\nHost: pinhole.local\n{forwarded}\n").replace('\n', "\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let status = daemon.wait_for("the viewer", |status| status["viewers"]["count"] == 1);
        status["viewers"]["list"][0]["peer"].as_str().unwrap().to_owned()
    };
    let daemon = Start::test_pattern().set("http.trusted_proxies=[127.0.0.0/8]").spawn();
    let answer = patch(&daemon, headers);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(patch(&daemon, &headers.replace("https\n", "http\n")).status, 403, "the scheme is compared");
    assert_eq!(patch(&daemon, &headers.replace("Host: cam", "Host: other")).status, 403, "and the host");
    assert_eq!(peer(&daemon, "X-Forwarded-For: 198.51.100.7, 203.0.113.9\n"), "203.0.113.9");

    // Loopback is nobody special.
    let daemon = Start::test_pattern().spawn();
    let answer = patch(&daemon, headers);
    assert_eq!(answer.status, 403);
    let forged = "Host: pinhole.local\nContent-Type: application/json\nOrigin: http://evil.example\n";
    assert_eq!(patch(&daemon, &format!("{forged}X-Forwarded-Host: evil.example\n")).status, 403);
    assert_eq!(patch(&daemon, &format!("{forged}Forwarded: host=evil.example;proto=http\n")).status, 403);
    assert!(peer(&daemon, "X-Forwarded-For: 203.0.113.9\n").starts_with("127.0.0.1:"));
}

#[test]
fn behind_a_proxy_the_refusal_says_what_it_must_pass_on() {
    let daemon = Start::test_pattern().spawn();
    // As nginx's plain proxy_pass asks.
    let json = "Content-Type: application/json\n";
    let answer = patch(&daemon, &format!("Host: 127.0.0.1:8080\n{json}Origin: http://cam.example.com\n"));
    let text = reason(&answer);
    assert_eq!(answer.status, 403);
    for word in ["open the camera's own page", "Host", "proxy_set_header Host $http_host"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let answer = patch(&daemon, &format!("Host: pinhole.local\n{json}Origin: https://pinhole.local\n"));
    let text = reason(&answer);
    assert!(
        answer.status == 403 && text.contains("X-Forwarded-Proto") && text.contains("http.trusted_proxies"),
        "{text}"
    );
    let text = reason(&get(&daemon, "/api/v1/status", "Host: upstream.example.com\n"));
    assert!(text.contains("upstream.example.com") && text.contains("proxy_set_header Host $http_host"), "{text}");
}

#[test]
fn pages_of_other_origins_get_nothing_of_the_api_and_change_nothing() {
    for origins in ["[]", "[\"*\"]", "[\"http://mainsail.local\"]"] {
        let daemon = Start::test_pattern().set(format!("http.allow_origins={origins}")).spawn();
        for foreign in
            ["Origin: http://mainsail.local\n", "Origin: null\n", "Sec-Fetch-Site: cross-site\n", "Origin: https://a\n"]
        {
            let headers = format!("Host: a\n{foreign}");
            for path in [
                "/api/v1/status",
                "/api/v1/controls",
                "/webcam/api/v1/diagnostics",
                "//api//v1/settings",
                "/%61pi/v1/controls",
            ] {
                for method in ["GET", "HEAD", "OPTIONS", "PATCH", "DELETE"] {
                    let request = format!("{method} {path} HTTP/1.1\nConnection: close\n{headers}\n");
                    let answer = raw(&daemon, &request);
                    assert_eq!(answer.status, 403, "{method} {path} {foreign}");
                    assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
                }
            }
            let request = format!("POST /stream HTTP/1.1\nConnection: close\n{headers}\n");
            assert_eq!(raw(&daemon, &request).status, 403, "{foreign}");
        }
        // The page's own requests.
        let own = "Host: a\nOrigin: http://a\nSec-Fetch-Site: same-origin\nContent-Type: application/json\n";
        assert_eq!(patch(&daemon, own).status, 200);
    }
}

#[test]
fn pictures_are_read_by_origins_that_are_named() {
    let allowed = |origins: &str, method: &str, path: &str, origin: &str| {
        let daemon = Start::test_pattern().set(format!("http.allow_origins={origins}")).spawn();
        let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\n") };
        let answer = raw(&daemon, &format!("{method} {path} HTTP/1.1\nHost: a\nConnection: close\n{origin}\n"));
        let header = |name: &str| answer.header(name).map(str::to_owned);
        (answer.status, header("access-control-allow-origin"), header("vary"))
    };
    let vary = || Some("Origin".to_owned());
    let one = "[http://mainsail.local]";
    for (path, status) in [("/snapshot", 200), ("/?action=snapshot", 200), ("/stream?fps=0", 400)] {
        assert_eq!(allowed("[]", "GET", path, "http://mainsail.local"), (status, None, None), "{path}");
        let mainsail = || Some("http://mainsail.local".to_owned());
        assert_eq!(allowed(one, "GET", path, "http://mainsail.local"), (status, mainsail(), vary()), "{path}");
        assert_eq!(allowed(one, "GET", path, "https://mainsail.local"), (status, None, vary()), "{path}");
        assert_eq!(allowed("*", "GET", path, "http://mainsail.local"), (status, mainsail(), vary()), "{path}");
    }
    assert_eq!(allowed("*", "GET", "/snapshot", "null"), (200, Some("null".to_owned()), vary()));
    assert_eq!(allowed("*", "GET", "/snapshot", ""), (200, None, vary()));
    assert_eq!(
        allowed("*", "OPTIONS", "/stream", "http://a.example"),
        (204, Some("http://a.example".to_owned()), vary())
    );
    assert_eq!(allowed("[]", "OPTIONS", "/stream", "http://a.example"), (204, None, None));
    for path in ["/", "/healthz", "/metrics", "/nothing"] {
        assert_eq!(allowed("*", "GET", path, "http://mainsail.local").1, None, "{path}");
    }
}

#[test]
fn writes_say_that_they_are_json() {
    let daemon = Start::test_pattern().spawn();
    for (headers, status) in [
        ("Content-Type: application/json\n", 200),
        ("Content-Type: Application/Json; charset=utf-8\n", 200),
        ("Content-Type: text/plain\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\n", 415),
        ("Content-Type: text/plain; application/json\n", 415),
        ("", 415),
    ] {
        let answer = patch(&daemon, &format!("Host: a\n{headers}"));
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        assert!(status == 200 || reason(&answer).contains("Content-Type: application/json"), "{}", reason(&answer));
    }
    let chunked = "PATCH /api/v1/settings HTTP/1.1\nHost: a\nConnection: close\nTransfer-Encoding: chunked\n\n0\n\n";
    assert_eq!(raw(&daemon, chunked).status, 415);
    let delete = "DELETE /api/v1/controls HTTP/1.1\nHost: a\nConnection: close\n";
    assert_eq!(raw(&daemon, &format!("{delete}\n")).status, 200, "without a body there is no type");
    assert_eq!(raw(&daemon, &format!("{delete}Content-Length: 0\n\n")).status, 200);
}

#[test]
fn every_answer_tells_browsers_what_it_is_for() {
    let start = |set: &str| Start::test_pattern().set("http.max_viewers=1").set(set).spawn();
    let daemon = start("http.frame_ancestors=[]");
    let viewer = daemon.stream("/stream");
    for (request, status) in [
        ("GET /", 200),
        ("GET /snapshot", 200),
        ("HEAD /stream", 200),
        ("GET /stream", 503),
        ("GET /stream?fps=0", 400),
        ("POST /snapshot", 405),
        ("GET /?action=nonsense", 400),
        ("OPTIONS /stream", 204),
        ("GET /api/v1/status", 200),
        ("GET /api/v1/nothing", 404),
        ("POST /api/v1/status", 405),
        ("GET /healthz", 200),
        ("GET /metrics", 200),
        ("GET /favicon.ico", 204),
        ("GET /nothing", 404),
        ("GET http://evil.example/stream", 421),
        ("GET http://evil.example/", 421),
    ] {
        let answer = raw(&daemon, &format!("{request} HTTP/1.1\nHost: a\nConnection: close\n\n"));
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{request}");
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{request}");
        let is_picture = ["stream", "snapshot", "action"].iter().any(|word| request.contains(word));
        let sharing = if is_picture { "cross-origin" } else { "same-origin" };
        assert_eq!(answer.header("cross-origin-resource-policy"), Some(sharing), "{request}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert_eq!(
            policy.contains("default-src 'none'") && policy.ends_with("frame-ancestors 'self'"),
            !is_picture,
            "{request}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(viewer.headers["x-accel-buffering"], "no");
    let page = daemon.get("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'sha256-") && policy.contains("style-src 'sha256-"), "{policy}");

    let policy = |set: &str| start(set).get("/").headers["content-security-policy"].clone();
    let two = policy("http.frame_ancestors=[\"http://ha.local:8123\", \"https://ha.example\"]");
    assert!(two.ends_with("frame-ancestors 'self' http://ha.local:8123 https://ha.example"), "{two}");
    assert!(policy("http.frame_ancestors=*").ends_with("frame-ancestors *"));
}

#[test]
fn a_picture_that_fails_may_still_be_shown_by_other_pages() {
    let daemon = Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent"]).spawn();
    let answer = daemon.get("/snapshot");
    assert_eq!((answer.status, answer.header("cross-origin-resource-policy")), (503, Some("cross-origin")));
}
