//! The caller against a server that plays an aggregator on its worst days, over
//! real TLS on loopback.

mod server;

use std::{fs, path::Path};

use prometheus_client::{encoding::text, registry::Registry};
use tokio::task::JoinSet;

use self::server::{Server, Speaks};
use super::*;

/// Long enough for a busy machine; waits end as soon as they can.
const PATIENCE: Duration = Duration::from_secs(30);

/// A deadline that is to pass.
const SHORT: Duration = Duration::from_millis(50);

const BODY_BYTES_MAX: usize = 64 * 1024;

/// What must appear in nothing that is printed.
const SECRET: &str = "hunter2";

/// A file for one test, gone with it.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let random = getrandom::u64().unwrap();
        let path = std::env::temp_dir().join(format!("returnpath-http-{random:016x}.pem"));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn caller(ca: &Path, private: Private) -> Arc<Caller> {
    let endpoint = Endpoint {
        ca: Some(ca.to_owned()),
        private,
        body_bytes_max: BODY_BYTES_MAX,
    };
    Arc::new(Caller::new(&[endpoint], Metrics::unobserved(&["one"])).unwrap())
}

/// A caller that believes the server, and may ask it on loopback.
fn friend(server: &Server) -> (Arc<Caller>, File) {
    let ca = File::new(&server.authority_pem);
    (caller(&ca.0, Private::Allowed), ca)
}

fn get(server: &Server, path: &str) -> Request {
    get_of("localhost", server, path)
}

fn get_of(host: &str, server: &Server, path: &str) -> Request {
    Request {
        method: Method::Get,
        url: format!("https://{host}:{}{path}?key={SECRET}", server.port),
        headers: vec![("x-key".into(), SECRET.into())],
        body: None,
    }
}

fn unreachable(answer: &Answer) -> &str {
    match answer {
        Answer::Unreachable(reason) => reason,
        Answer::Response(_) | Answer::Timeout | Answer::TooLarge => {
            panic!("reached: {answer:?}")
        }
    }
}

fn response(answer: Answer) -> Response {
    match answer {
        Answer::Response(response) => response,
        Answer::Timeout | Answer::Unreachable(_) | Answer::TooLarge => {
            panic!("no response: {answer:?}")
        }
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_its_answer_comes_back() {
    for speaks in [Speaks::Either, Speaks::Http1] {
        let server = Server::start(speaks).await;
        let (caller, _ca) = friend(&server);
        let mut request = get(&server, "/echo");
        request.method = Method::Post;
        request
            .headers
            .push(("content-type".into(), "application/json".into()));
        request.body = Some(Bytes::from_static(b"{\"a\":1}"));
        let response = response(caller.call(0, request, PATIENCE).await);
        assert_eq!(response.status, 200);
        assert_eq!(response.content_type.as_deref(), Some("text/plain"));
        assert_eq!(response.content_encoding, None);
        let echo = String::from_utf8(response.body.to_vec()).unwrap();
        let mut lines: Vec<&str> = echo
            .lines()
            .filter(|line| !line.starts_with("host:"))
            .collect();
        lines.sort_unstable();
        // No encodings offered, no cookies, no name of a program.
        assert_eq!(
            lines,
            [
                "POST /echo?key=hunter2",
                "accept: application/json",
                "content-length: 7",
                "content-type: application/json",
                "x-key: hunter2",
                "{\"a\":1}",
            ]
        );
    }
}

#[tokio::test]
async fn a_hundred_calls_at_once_from_cold_share_one_connection() {
    let server = Server::start(Speaks::Either).await;
    let (caller, _ca) = friend(&server);
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (caller, request) = (Arc::clone(&caller), get(&server, "/ok"));
        calls.spawn(async move { caller.call(0, request, PATIENCE).await });
    }
    for answer in calls.join_all().await {
        assert_eq!(response(answer).body, "{}");
    }
    assert_eq!((server.connections(), server.requests()), (1, 100));
}

#[tokio::test]
async fn one_that_is_slow_ends_at_its_deadline_and_spoils_nothing() {
    for speaks in [Speaks::Either, Speaks::Http1] {
        let server = Server::start(speaks).await;
        let (caller, _ca) = friend(&server);
        response(caller.call(0, get(&server, "/ok"), PATIENCE).await);
        let began = Instant::now();
        for path in ["/silent", "/stalls"] {
            let answer = caller.call(0, get(&server, path), SHORT).await;
            assert_eq!(answer, Answer::Timeout, "{path}");
        }
        assert!(began.elapsed() >= 2 * SHORT);
        response(caller.call(0, get(&server, "/ok"), PATIENCE).await);
    }
}

#[tokio::test]
async fn a_deadline_shorter_than_a_handshake_is_met_once_the_connection_stands() {
    let server = Server::start(Speaks::Either).await;
    server.hold_handshakes();
    let (caller, _ca) = friend(&server);
    for _ in 0..3 {
        let answer = caller.call(0, get(&server, "/ok"), SHORT).await;
        assert_eq!(answer, Answer::Timeout);
    }
    // One connection was begun, and goes on although nobody waits for it.
    assert_eq!(server.connections(), 1);
    server.release_handshakes();
    response(caller.call(0, get(&server, "/ok"), PATIENCE).await);
    assert_eq!(server.connections(), 1);
    let first = server.requests();
    response(caller.call(0, get(&server, "/ok"), PATIENCE).await);
    assert_eq!((server.connections(), server.requests()), (1, first + 1));
}

#[tokio::test]
async fn one_that_is_dead_is_unreachable_and_found_again_when_it_lives() {
    let server = Server::start(Speaks::Either).await;
    let (caller, _ca) = friend(&server);
    response(caller.call(0, get(&server, "/ok"), PATIENCE).await);
    server.cut_connections().await;
    let mut dead = get(&server, "/ok");
    dead.url = format!("https://localhost:{}/ok?key={SECRET}", server.free_port());
    let answer = caller.call(0, dead, PATIENCE).await;
    assert!(
        unreachable(&answer).starts_with("cannot connect: "),
        "{answer:?}"
    );
    // The cut connection may be noticed only in using it.
    let found = async {
        while !matches!(
            caller.call(0, get(&server, "/ok"), PATIENCE).await,
            Answer::Response(_)
        ) {}
    };
    time::timeout(PATIENCE, found).await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn what_is_no_http_is_unreachable_and_repeats_no_secret() {
    let server = Server::start(Speaks::Garbage).await;
    let (caller, _ca) = friend(&server);
    let answer = caller.call(0, get(&server, "/ok"), PATIENCE).await;
    let reason = unreachable(&answer);
    assert!(!reason.contains(SECRET), "{reason}");
    assert!(reason.len() <= REASON_BYTES_MAX, "{reason}");
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_left_at_the_limit() {
    for speaks in [Speaks::Either, Speaks::Http1] {
        let server = Server::start(speaks).await;
        let (caller, _ca) = friend(&server);
        // Said before, or found out in reading.
        for path in ["/gigabyte-announced", "/gigabyte"] {
            let answer = caller.call(0, get(&server, path), PATIENCE).await;
            assert_eq!(answer, Answer::TooLarge, "{path}");
        }
        // The rest waits in windows and sockets, and then goes no further.
        let most = 16 * 1024 * 1024;
        assert!(server.body_bytes() < most, "{}", server.body_bytes());
        let whole = caller.call(0, get(&server, "/limit"), PATIENCE).await;
        assert_eq!(response(whole).body.len(), BODY_BYTES_MAX);
        let more = caller
            .call(0, get(&server, "/limit-and-one"), PATIENCE)
            .await;
        assert_eq!(more, Answer::TooLarge);
    }
}

#[tokio::test]
async fn a_compression_bomb_stays_packed() {
    let server = Server::start(Speaks::Either).await;
    let (caller, _ca) = friend(&server);
    let response = response(caller.call(0, get(&server, "/bomb"), PATIENCE).await);
    assert_eq!(response.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(response.body, server::BOMB);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_leads_nowhere() {
    let server = Server::start(Speaks::Either).await;
    let (caller, _ca) = friend(&server);
    let response = response(caller.call(0, get(&server, "/loop"), PATIENCE).await);
    assert_eq!((response.status, server.requests()), (302, 1));
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_another_name_is_refused() {
    let server = Server::start(Speaks::Either).await;
    let stranger = Server::start(Speaks::Either).await;
    let (_, own) = friend(&server);
    let (caller, _ca) = friend(&stranger);
    for (caller, request) in [
        (caller, get(&server, "/ok")),
        // The certificate names localhost alone.
        (
            super::tests::caller(&own.0, Private::Allowed),
            get_of("127.0.0.1", &server, "/ok"),
        ),
    ] {
        let answer = caller.call(0, request, PATIENCE).await;
        let reason = unreachable(&answer);
        assert!(reason.contains("certificate"), "{reason}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn private_addresses_are_never_connected_to_unless_configured() {
    let server = Server::start(Speaks::Either).await;
    let (_, ca) = friend(&server);
    let caller = caller(&ca.0, Private::Refused);
    for (host, expected) in [
        ("127.0.0.1", "its address is not public"),
        // Other ways to write the same.
        ("127.1", "its address is not public"),
        ("0x7f000001", "its address is not public"),
        ("2130706433", "its address is not public"),
        ("[::1]", "its address is not public"),
        ("[::ffff:127.0.0.1]", "its address is not public"),
        ("169.254.169.254", "its address is not public"),
        ("localhost", "its name resolves to no public address"),
    ] {
        let answer = caller.call(0, get_of(host, &server, "/ok"), PATIENCE).await;
        let reason = unreachable(&answer);
        assert!(reason.contains(expected), "{host}: {reason}");
        assert!(!reason.contains(SECRET), "{host}: {reason}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_and_nothing_of_it_is_repeated() {
    let server = Server::start(Speaks::Either).await;
    let (caller, _ca) = friend(&server);
    let plain = |request: &mut Request| request.url = request.url.replace("https:", "http:");
    let no_url = |request: &mut Request| request.url = SECRET.into();
    let split = |request: &mut Request| request.headers[0].1 = format!("{SECRET}\r\nx: y");
    let no_name = |request: &mut Request| request.headers[0].0 = "x y".into();
    type Spoil<'a> = &'a dyn Fn(&mut Request);
    let wrongs: [(Spoil<'_>, &str); 4] = [
        (&plain, "only https is spoken"),
        (&no_url, "the URL cannot be read"),
        (&split, "a header's value cannot be sent"),
        (&no_name, "a header's name cannot be sent"),
    ];
    for (wrong, expected) in wrongs {
        let mut request = get(&server, "/ok");
        wrong(&mut request);
        let answer = caller.call(0, request, PATIENCE).await;
        assert_eq!(unreachable(&answer), expected);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn every_call_is_measured_under_its_aggregators_name() {
    let server = Server::start(Speaks::Either).await;
    let ca = File::new(&server.authority_pem);
    let endpoint = Endpoint {
        ca: Some(ca.0.clone()),
        private: Private::Allowed,
        body_bytes_max: BODY_BYTES_MAX,
    };
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, ["north", "south"]);
    let caller = Caller::new(&[endpoint.clone(), endpoint], metrics).unwrap();
    response(caller.call(1, get(&server, "/ok"), PATIENCE).await);
    assert_eq!(
        caller.call(1, get(&server, "/silent"), SHORT).await,
        Answer::Timeout
    );
    let mut page = String::new();
    text::encode(&mut page, &registry).unwrap();
    assert!(
        page.contains("call_seconds_count{aggregator=\"north\"} 0"),
        "{page}"
    );
    assert!(
        page.contains("call_seconds_count{aggregator=\"south\"} 2"),
        "{page}"
    );
}

#[test]
fn authorities_that_cannot_be_used_are_named_by_their_file() {
    let empty = File::new("");
    for (path, expected) in [
        (
            Path::new("/nowhere/ca.pem"),
            "/nowhere/ca.pem cannot be read",
        ),
        (&empty.0, "must hold at least one certificate in PEM"),
    ] {
        let endpoint = Endpoint {
            ca: Some(path.to_owned()),
            private: Private::Refused,
            body_bytes_max: BODY_BYTES_MAX,
        };
        let (place, error) = Caller::new(&[endpoint], Metrics::unobserved(&[])).unwrap_err();
        assert_eq!(place, 0);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
