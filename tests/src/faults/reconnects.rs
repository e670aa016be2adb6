//! A fleet loses its broker at once, and comes back spread as configured. How
//! fast it comes is read from the broker's own log.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{audited::Audited, peak_memory::PeakMemory, stage::Stage};
use crate::{
    fleet::{AdSource, Fleet, FleetSettings, Load, moment::Moment, write_answers},
    kafka::Kafka,
};

/// Files of a process besides one connection a box.
const FILES_BESIDES: u64 = 500;

/// All boxes connected, first and again: the spread, and a broker on the same
/// two cores that takes 5,000 handshakes.
const CONNECT_LIMIT: Duration = Duration::from_secs(300);

const DRAIN_LIMIT: Duration = Duration::from_secs(300);

const AUDIT_LIMIT: Duration = Duration::from_secs(180);

/// Boxes wait for their slot *and* for the random backoff, whichever is later:
/// those whose slot is earlier than the backoff's bound pile up towards that
/// bound, at up to twice the even rate.
const EVEN_RATES_MAX: f64 = 2.0;

/// What chance adds to the fullest second: four standard deviations.
const DEVIATIONS_MAX: f64 = 4.0;

const ANSWERS_WAITING_MAX: usize = 4_096;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many simulated boxes.
    pub boxes: u32,
    /// Over which time they come back.
    pub spread: Duration,
    /// Of the households.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    boxes: u32,
    spread_s: f64,
    even_per_s: f64,
    peak_per_s: u64,
    peak_per_s_max: f64,
    connects: u64,
    seconds_with_connects: usize,
    all_back_s: f64,
    events_during: u64,
    audited: Audited,
    panics: Vec<String>,
    peak_memory: PeakMemory,
}

impl Report {
    /// Whether they came back spread, all of them, and every promise was kept.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn is_clean(&self) -> bool {
        self.peak_per_s as f64 <= self.peak_per_s_max
            && self.connects >= u64::from(self.boxes)
            && self.audited.is_clean()
            && self.audited.ordinary.declared_total() == 0
            && self.panics.is_empty()
    }

    /// Its section of the page of numbers.
    #[must_use]
    pub fn section(&self) -> String {
        let mut text = format!(
            "{boxes} simulated boxes over TLS, all connected; Mosquitto is killed and started \
             again at once. Connections are counted by Mosquitto's log.\n\n\
             | what | figure |\n|---|---|\n\
             | configured spread | {spread:.0} s |\n\
             | even rate over it | {even:.1} connections/s |\n\
             | highest rate, of a second | **{peak} connections/s** (at most {limit:.0}) |\n\
             | connections until all were back | {connects} in {seconds} seconds |\n\
             | from the kill to the last box back | {back:.1} s |\n\
             | events answered from the kill on | {events} |\n",
            boxes = self.boxes,
            spread = self.spread_s,
            even = self.even_per_s,
            peak = self.peak_per_s,
            limit = self.peak_per_s_max,
            connects = self.connects,
            seconds = self.seconds_with_connects,
            back = self.all_back_s,
            events = self.events_during,
        );
        let _ = write!(
            text,
            "\n{}\n{}",
            self.audited.table(),
            self.peak_memory.table()
        );
        text
    }
}

/// Lets a fleet lose its broker, audits, and says what came of it.
///
/// # Errors
/// When something does not start, or boxes do not come back at all.
pub async fn run(
    kafka: &Kafka,
    settings: Settings,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Report> {
    // For this process and, by inheritance, for the broker.
    allow_files(u64::from(settings.boxes) + FILES_BESIDES)?;
    let mut stage = Stage::set("fleet", &[kafka.address()]).await?;
    let mut collector = stage.collector("collector-a")?;
    collector.start().await?;
    let (answers, answered) = mpsc::channel(ANSWERS_WAITING_MAX);
    let file = File::create_new(stage.answers())?;
    let writer = thread::spawn(move || write_answers(answered, file));
    let fleet_settings = FleetSettings {
        broker: format!("localhost:{}", stage.mosquitto.port()).parse()?,
        boxes: settings.boxes,
        prefix: "household-".into(),
        seed: settings.seed,
        load: Load::Viewers {
            from: Moment::parse("20:05")?,
            speed: 1,
            ads: AdSource::MadeUp,
        },
    };
    let spread = settings.spread;
    let mut fleet = Fleet::start_spread(&fleet_settings, &stage.pki, &answers, spread)?;
    drop(answers);
    fleet.connected(CONNECT_LIMIT).await?;
    tell("all boxes are connected");
    let mut peak_memory = PeakMemory::default();
    peak_memory.look("Mosquitto", stage.mosquitto.process_id());

    let logged = stage.mosquitto.log()?.len();
    let events = |counts: crate::fleet::FleetCounts| counts.events_accepted + counts.events_durable;
    let before = events(fleet.counts());
    let begun = Instant::now();
    stage.mosquitto.kill()?;
    stage.mosquitto.resume().await?;
    tell("the broker was killed and is back");
    fleet.connected(CONNECT_LIMIT).await?;
    let all_back = begun.elapsed();
    tell("all boxes are back");
    let events_during = events(fleet.counts()) - before;
    let log = stage.mosquitto.log()?;
    let by_second = connects_by_second(log.get(logged..).unwrap_or_default());

    fleet.drain(DRAIN_LIMIT).await?;
    fleet.stop().await;
    writer
        .join()
        .map_err(|_| anyhow!("the thread that writes answers panicked"))??;
    peak_memory.look("Mosquitto", stage.mosquitto.process_id());
    peak_memory.look("collector", collector.process_id());
    peak_memory.look("Kafka", kafka.process_id());
    peak_memory.look("all boxes", Ok(std::process::id()));
    tell("auditing");
    let even_per_s = f64::from(settings.boxes) / settings.spread.as_secs_f64();
    let expected = EVEN_RATES_MAX * even_per_s;
    Ok(Report {
        boxes: settings.boxes,
        spread_s: settings.spread.as_secs_f64(),
        even_per_s,
        peak_per_s: by_second.values().copied().max().unwrap_or_default(),
        peak_per_s_max: expected + DEVIATIONS_MAX * expected.sqrt(),
        connects: by_second.values().sum(),
        seconds_with_connects: by_second.len(),
        all_back_s: all_back.as_secs_f64(),
        events_during,
        audited: stage.audit(&[stage.answers()], AUDIT_LIMIT).await?,
        panics: stage.panics()?,
        peak_memory,
    })
}

/// New TCP connections by the second in which Mosquitto logged them.
fn connects_by_second(log: &str) -> BTreeMap<&str, u64> {
    let mut seconds = BTreeMap::new();
    for line in log.lines() {
        if let Some((second, rest)) = line.split_once(": ")
            && rest.starts_with("New connection from ")
        {
            *seconds.entry(second).or_default() += 1;
        }
    }
    seconds
}

/// Raises how many files this process may have open, as far as it may.
fn allow_files(count: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= count),
        "{count} open files are needed, and {:?} are allowed: raise the hard limit (ulimit -Hn)",
        limit.maximum
    );
    let raised = Rlimit {
        current: Some(count),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raise the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_the_second_of_the_log() {
        let log = "\
20:00:01: New connection from 127.0.0.1:1 on port 2.
20:00:01: New connection from 127.0.0.1:2 on port 2.
20:00:01: New client connected from 127.0.0.1:1 as box-1 (p5, c1, k60, u'box-1').
20:00:03: New connection from 127.0.0.1:3 on port 2.
";
        let seconds = connects_by_second(log);
        assert_eq!(seconds, BTreeMap::from([("20:00:01", 2), ("20:00:03", 1)]));
    }
}
