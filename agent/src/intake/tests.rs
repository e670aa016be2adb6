use std::{fs, path::PathBuf, time::Duration};

use rustix::process::getuid;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::*;

/// What is waited for comes in milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// A socket of a test's own, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("returnpath-intake-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn listen(&self) -> Intake {
        let config = IntakeConfig {
            socket: self.socket(),
            mode: 0o600,
            group: None,
            clients_max: 4,
            allow: Vec::new(),
        };
        let permissions = Permissions::new(getuid().as_raw(), &config.allow, true);
        Intake::listen(&config, permissions).unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// A client that asked to follow, and was let.
    async fn follower(&self, intake: &mut Intake) -> (BufReader<UnixStream>, Following) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream
            .write_all(b"{\"follow\":\"decisions\"}\n")
            .await
            .unwrap();
        let incoming = intake.next().await.unwrap();
        assert_eq!(incoming.request, Request::FollowDecisions);
        let following = incoming.reply.follow().unwrap();
        let mut stream = BufReader::new(stream);
        assert_eq!(line(&mut stream).await, "{\"status\":\"following\"}\n");
        (stream, following)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// The next line; empty when the agent hung up.
async fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    let read = stream.read_line(&mut line);
    timeout(LIMIT, read).await.unwrap().unwrap();
    line
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_let_go_and_holds_up_nobody() {
    let place = Place::new("deaf-follower");
    let mut intake = place.listen();
    let (_deaf, deaf) = place.follower(&mut intake).await;
    let (mut good, following) = place.follower(&mut intake).await;
    // Far more than its channel and the kernel hold.
    let filler = "x".repeat(2_000);
    let mut taken = 0;
    let mut deaf = Some(deaf);
    for number in 0..2_000 {
        let decision = format!("{number} {filler}\n");
        if deaf
            .as_ref()
            .is_some_and(|deaf| deaf.send(decision.clone()))
        {
            taken += 1;
        } else {
            deaf = None;
        }
        assert!(following.send(decision.clone()), "decision {number}");
        assert_eq!(line(&mut good).await, decision);
    }
    assert!(deaf.is_none(), "{taken} decisions piled up");
    assert!(taken >= FOLLOWED_MAX, "{taken}");
    assert!(!following.is_gone());
}

#[tokio::test]
async fn a_follower_that_was_let_go_gets_what_was_taken_and_then_the_end() {
    let place = Place::new("dropped-follower");
    let mut intake = place.listen();
    let (mut client, following) = place.follower(&mut intake).await;
    for number in 0..FOLLOWED_MAX {
        assert!(following.send(format!("{number}\n")), "{number}");
    }
    drop(following);
    for number in 0..FOLLOWED_MAX {
        assert_eq!(line(&mut client).await, format!("{number}\n"));
    }
    assert_eq!(line(&mut client).await, "");
    assert_eq!(intake.counters().clients_too_slow(), 1);
}
