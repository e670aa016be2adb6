//! One client: its bytes into requests, its answers into bytes.
//!
//! Holds at most one line of it and a bounded number of its requests. A client
//! that sends faster than it is served, or does not read its answers, finds
//! its socket full and waits; nobody else does.

use std::{
    future::pending,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use returnpath_shared::LINE_BYTES_MAX;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};
use tracing::debug;

use super::{
    Answer, Counters, FOLLOWED_MAX, Incoming, Permitted, Refusal, RefusalReason, Reply, Request,
    request::parse,
};
use crate::clock;

/// Requests of one client that wait for an answer; further ones are left in
/// its socket. Proof waits for the network or for flash, so a client may have
/// many under way at once.
const UNANSWERED_MAX: usize = 256;

/// A client that takes no byte of its answers for this long is disconnected.
const WRITE_STALL_MAX: Duration = Duration::from_secs(10);

/// What is read at once, and kept between lines.
const READ_BYTES: usize = 4 * 1024;

/// A client's task.
pub(super) struct Client {
    stream: UnixStream,
    permitted: Permitted,
    requests: mpsc::Sender<Incoming>,
    counters: Arc<Counters>,
    /// Once it follows.
    decisions: Option<mpsc::Receiver<String>>,
    answers: mpsc::Receiver<String>,
    answers_sender: mpsc::Sender<String>,
    /// Requests handed on and not answered yet.
    unanswered: usize,
    /// Bytes read and not yet turned into requests.
    buffer: Vec<u8>,
    /// Inside a line that is too long: skip to its end.
    skipping: bool,
}

/// Why a client's task ends.
enum End {
    /// The client hung up.
    Left,
    /// The event loop is gone.
    Stopping,
    /// The client does not read.
    TooSlow,
}

impl Client {
    pub(super) fn new(
        stream: UnixStream,
        permitted: Permitted,
        requests: mpsc::Sender<Incoming>,
        counters: Arc<Counters>,
    ) -> Self {
        let (answers_sender, answers) = mpsc::channel(UNANSWERED_MAX);
        Self {
            stream,
            permitted,
            requests,
            counters,
            decisions: None,
            answers,
            answers_sender,
            unanswered: 0,
            buffer: Vec::new(),
            skipping: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            if let Err(end) = self.turn().await {
                match end {
                    End::Left => debug!("a client left"),
                    End::Stopping => {}
                    End::TooSlow => {
                        debug!("a client does not read its answers");
                        self.counters
                            .clients_too_slow
                            .fetch_add(1, Ordering::Relaxed);
                    }
                }
                return;
            }
        }
    }

    /// Reads or writes once. Reading stops while too much is unanswered.
    async fn turn(&mut self) -> Result<(), End> {
        let may_read = self.unanswered < UNANSWERED_MAX;
        if may_read && self.next_line().await? {
            return Ok(());
        }
        let room = self.buffer.len() + READ_BYTES;
        self.buffer.reserve_exact(room - self.buffer.len());
        let decision = async {
            match &mut self.decisions {
                Some(decisions) => decisions.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            // What was asked first is answered first: "following" stands before
            // the decisions that it announces.
            biased;
            answer = self.answers.recv() => match answer {
                Some(answer) => self.write(answer).await,
                // Held by `self` too: never comes.
                None => Err(End::Stopping),
            },
            decision = decision => match decision {
                Some(line) => self.write_all(line.as_bytes()).await,
                // More lay in its channel than it read.
                None => Err(End::TooSlow),
            },
            read = self.stream.read_buf(&mut self.buffer), if may_read => match read {
                Ok(0) | Err(_) => Err(End::Left),
                Ok(_) => Ok(()),
            },
        }
    }

    /// Takes one line off the buffer and deals with it; `false` when there is
    /// no whole one.
    async fn next_line(&mut self) -> Result<bool, End> {
        let Some(length) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            if self.buffer.len() > LINE_BYTES_MAX || self.skipping {
                if !self.skipping {
                    self.skipping = true;
                    self.refuse_long_line().await?;
                }
                self.buffer.clear();
            }
            self.buffer.shrink_to(READ_BYTES);
            return Ok(false);
        };
        if self.skipping {
            self.skipping = false;
            self.buffer.drain(..=length);
            return Ok(true);
        }
        if length > LINE_BYTES_MAX {
            self.buffer.drain(..=length);
            self.refuse_long_line().await?;
            return Ok(true);
        }
        let mut line = self.buffer.get(..length).unwrap_or_default();
        if let [head @ .., b'\r'] = line {
            line = head;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            self.buffer.drain(..=length);
            return Ok(true);
        }
        let (id, parsed) = parse(line, self.permitted, clock::uptime_ms());
        self.buffer.drain(..=length);
        match parsed {
            Ok(Request::FollowDecisions) if self.decisions.is_some() => {
                let refusal = Refusal {
                    reason: RefusalReason::InvalidRequest,
                    field: Some("follow".into()),
                    expected: Some("one such request on a connection".into()),
                };
                self.counters.refuse(refusal.reason);
                self.write_all(Answer::Refused(refusal).line(id.as_ref()).as_bytes())
                    .await?;
            }
            Ok(request) => {
                let decisions = (request == Request::FollowDecisions).then(|| {
                    let (sender, receiver) = mpsc::channel(FOLLOWED_MAX);
                    self.decisions = Some(receiver);
                    sender
                });
                let reply = Reply {
                    id,
                    answers: self.answers_sender.clone(),
                    decisions,
                };
                self.unanswered += 1;
                let incoming = Incoming { request, reply };
                let sent = self.requests.send(incoming).await;
                sent.map_err(|_gone| End::Stopping)?;
            }
            Err(refusal) => {
                self.counters.refuse(refusal.reason);
                self.write_all(Answer::Refused(refusal).line(id.as_ref()).as_bytes())
                    .await?;
            }
        }
        Ok(true)
    }

    async fn refuse_long_line(&mut self) -> Result<(), End> {
        let reason = RefusalReason::LineTooLong;
        self.counters.refuse(reason);
        let refusal = Refusal {
            reason,
            field: None,
            expected: Some(format!("at most {LINE_BYTES_MAX} bytes in a line")),
        };
        self.write_all(Answer::Refused(refusal).line(None).as_bytes())
            .await
    }

    /// Writes an answer together with those that are ready behind it.
    async fn write(&mut self, mut lines: String) -> Result<(), End> {
        self.unanswered -= 1;
        while lines.len() < READ_BYTES
            && let Ok(line) = self.answers.try_recv()
        {
            self.unanswered -= 1;
            lines.push_str(&line);
        }
        self.write_all(lines.as_bytes()).await
    }

    /// Any byte taken starts the time anew.
    async fn write_all(&mut self, mut rest: &[u8]) -> Result<(), End> {
        while !rest.is_empty() {
            let written: io::Result<usize> = timeout(WRITE_STALL_MAX, self.stream.write(rest))
                .await
                .map_err(|_elapsed| End::TooSlow)?;
            match written {
                Ok(0) | Err(_) => return Err(End::Left),
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}
