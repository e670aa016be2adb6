//! What flows, for people: on a terminal a picture that is drawn over the one
//! before, elsewhere a row every few seconds. Rendering is pure (`screen`,
//! `rows`, `canvas`); [`View`] only writes.

mod canvas;
mod rows;
mod screen;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

use returnpath_collector::decisions::paint::Paint;

use self::canvas::{Canvas, Size};
use super::read_along::Seen;
use crate::fleet::{FleetCounts, latency::Percentiles};

/// Rows are rarer than pictures: they stay.
const ROW_EVERY: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) stage: &'static str,
    pub(super) elapsed: Duration,
    pub(super) feed_for: Option<Duration>,
    pub(super) agents: u32,
    pub(super) boxes: u32,
    pub(super) speed: u32,
    /// From opportunity to decision, on the sockets of agents.
    pub(super) agents_decided: Percentiles,
    pub(super) breaker_openings: BTreeMap<String, u64>,
    pub(super) fleet: FleetCounts,
    pub(super) seen: Seen,
    /// Events answered a second, over the last frames.
    pub(super) answered_per_second: u64,
    /// Commands to look in from another terminal.
    pub(super) look_in: Vec<String>,
}

/// Where frames go, and how.
pub(super) struct View {
    form: Form,
}

enum Form {
    /// A terminal: each frame over the one before.
    Pictures { canvas: Canvas, paint: Paint },
    /// Rows on standard output.
    Rows { last: Option<Instant> },
    /// Rows on standard error: standard output is for JSON.
    RowsAside { last: Option<Instant> },
}

impl View {
    pub(super) fn for_people() -> Self {
        let form = if io::stdout().is_terminal() {
            Form::Pictures {
                canvas: Canvas::default(),
                paint: Paint::of_stdout(),
            }
        } else {
            Form::Rows { last: None }
        };
        Self { form }
    }

    pub(super) fn beside_json() -> Self {
        Self {
            form: Form::RowsAside { last: None },
        }
    }

    /// Shows a frame, or not if it is too soon for another row.
    pub(super) fn show(&mut self, frame: &Frame) -> io::Result<()> {
        match &mut self.form {
            Form::Pictures { canvas, paint } => {
                let picture = canvas.draw(&screen::text(frame, *paint), size());
                let mut out = io::stdout().lock();
                out.write_all(picture.as_bytes())?;
                out.flush()
            }
            Form::Rows { last } => row(last, frame, io::stdout().lock()),
            Form::RowsAside { last } => row(last, frame, io::stderr().lock()),
        }
    }

    /// Makes room for what comes after the frames.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Pictures { canvas, .. } => {
                io::stdout().lock().write_all(canvas.clear().as_bytes())
            }
            Form::Rows { .. } => writeln!(io::stdout().lock()),
            Form::RowsAside { .. } => writeln!(io::stderr().lock()),
        }
    }
}

fn row(last: &mut Option<Instant>, frame: &Frame, mut out: impl Write) -> io::Result<()> {
    match last {
        Some(last) if last.elapsed() < ROW_EVERY => return Ok(()),
        Some(_) => {}
        None => {
            for line in &frame.look_in {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "\n{}", rows::head())?;
        }
    }
    *last = Some(Instant::now());
    writeln!(out, "{}", rows::row(frame))
}

/// Of the terminal; where it does not say, the smallest that is usual.
fn size() -> Size {
    let said = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let said = said.map(|size| Size {
        rows: size.ws_row.into(),
        columns: size.ws_col.into(),
    });
    said.filter(|size| size.rows > 1 && size.columns > 0)
        .unwrap_or(Size {
            rows: 24,
            columns: 80,
        })
}
