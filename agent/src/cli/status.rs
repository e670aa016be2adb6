//! `status`: asks a running agent and prints what it tells.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{arguments::StatusFormat, complain, print};
use crate::exit::Exit;

/// An agent that does not answer within this hangs.
const ANSWER_MAX: Duration = Duration::from_secs(5);

pub(super) fn status(socket: &Path, format: StatusFormat) -> Exit {
    match ask(socket) {
        Ok(report) => match format {
            StatusFormat::Json => print(&format!("{report}\n")),
            StatusFormat::Human => print(&human(&report)),
        },
        Err(error) => {
            complain(&format!("{}: {error}", socket.display()));
            Exit::Unavailable
        }
    }
}

fn ask(socket: &Path) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"{\"status\":{}}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let mut answer: Value = serde_json::from_str(&line)?;
    match answer.get_mut("report") {
        Some(report) => Ok(report.take()),
        None => Err(io::Error::other(format!("answered {}", line.trim()))),
    }
}

/// One line for each subject.
fn human(report: &Value) -> String {
    let at = |path: &str| report.pointer(path).cloned().unwrap_or_default();
    let text = |path: &str| {
        let value = at(path);
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let held = |name: &str| {
        format!(
            "{} batches, {} bytes",
            text(&format!("/queue/{name}/batches")),
            text(&format!("/queue/{name}/bytes"))
        )
    };
    let oldest = at("/queue/oldestAgeS").as_u64().map_or_else(
        || "nothing held".to_owned(),
        |seconds| format!("oldest {seconds} s"),
    );
    let link = match (at("/link/up"), at("/link/lastError")) {
        (Value::Bool(true), _) => "up".to_owned(),
        (_, Value::String(error)) => format!("down: {error}"),
        _ => "down".to_owned(),
    };
    let storage = if at("/queue/storageGood") == true {
        ""
    } else {
        " - NO QUEUE FILE"
    };
    let budget = if at("/flash/budgetSpent") == true {
        " - BUDGET SPENT"
    } else {
        ""
    };
    let by_reason = |path: &str| {
        let counts = at(path);
        let counts = counts.as_object().into_iter().flatten();
        let named: Vec<_> = counts
            .filter(|(_, count)| count.as_u64() != Some(0))
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if named.is_empty() {
            "none".to_owned()
        } else {
            named.join(", ")
        }
    };
    let config = match at("/config/version").as_u64() {
        Some(0) | None => "as in the file".to_owned(),
        Some(version) => format!("version {version} of the cloud's"),
    };
    let config = match by_reason("/config/refused").as_str() {
        "none" => config,
        refused => format!("{config}; refused: {refused}"),
    };
    format!(
        "\
device     {device}, epoch {epoch}, version {version}
link       {link}; {in_flight} of {window} batches in flight, {reconnects} reconnects
queue      {oldest}; {file} of {file_max} bytes of file, {unflushed} bytes in memory only{storage}
  ordinary {ordinary}
  proof    {proof}
  live     {live}
  backlog  {backlog}
events     {accepted} accepted, {receipted} receipted, {repeated} repeated, {busy} busy, {waiting} awaiting durable
  refused  {refused}
  dropped  {dropped}
batches    {sent} sent, {resent} resent, {batches_receipted} receipted
flash      {written} bytes written, {commits} commits, {synced} of them synced, {failed} failed{budget}
decisions  {decisions_open} open, {decisions_bound} bound, {handed_over} handed over, {decisions_repeated} repeated, {followers} followers{decisions_off}
  refused  {decisions_refused}
config     {config}
clients    {clients} connected, {turned_away} turned away, {too_slow} too slow
process    {resident} bytes resident, {anonymous} anonymous, {cpu} ms of CPU
clock      {clock}
",
        device = text("/device"),
        epoch = text("/epoch"),
        version = text("/version"),
        in_flight = text("/link/batchesInFlight"),
        window = text("/link/window"),
        reconnects = text("/link/reconnects"),
        file = text("/queue/fileBytes"),
        file_max = text("/queue/fileBytesMax"),
        unflushed = text("/queue/unflushedBytes"),
        ordinary = held("ordinary"),
        proof = held("proof"),
        live = held("live"),
        backlog = held("backlog"),
        accepted = text("/events/accepted"),
        receipted = text("/events/receipted"),
        repeated = text("/events/repeated"),
        busy = text("/events/busy"),
        waiting = text("/events/awaitingDurable"),
        refused = by_reason("/events/refused"),
        dropped = by_reason("/events/dropped"),
        sent = text("/batches/sent"),
        resent = text("/batches/resent"),
        batches_receipted = text("/batches/receipted"),
        written = text("/flash/writtenBytes"),
        commits = text("/flash/commits"),
        synced = text("/flash/commitsSynced"),
        failed = text("/flash/commitsFailed"),
        decisions_open = text("/decisions/open"),
        decisions_bound = text("/decisions/bound"),
        handed_over = text("/decisions/handedOver"),
        decisions_repeated = text("/decisions/repeated"),
        followers = text("/decisions/followers"),
        decisions_off = if at("/decisions/taken") == true {
            ""
        } else {
            " - none are taken (trust.decision_keys)"
        },
        decisions_refused = by_reason("/decisions/refused"),
        clients = text("/clients/connected"),
        turned_away = text("/clients/turnedAway"),
        too_slow = text("/clients/tooSlow"),
        resident = text("/process/residentBytes"),
        anonymous = text("/process/anonymousBytes"),
        cpu = text("/process/cpuMs"),
        clock = if at("/clockSynchronised") == true {
            "synchronised"
        } else {
            "not synchronised"
        },
    )
}
