//! Answers as `returnpath-collector audit` reads them.

use std::io::{BufWriter, Write};

use returnpath_collector::audit::{Answer, class_name};
use returnpath_shared::Class;
use serde_json::json;
use tokio::sync::mpsc;

/// Writes answers, a JSON object a line, until nobody sends any more. Blocks
/// its thread.
///
/// # Errors
/// When they cannot be written.
pub fn write_answers(mut answers: mpsc::Receiver<Answer>, file: impl Write) -> anyhow::Result<()> {
    let mut file = BufWriter::new(file);
    while let Some(answer) = answers.blocking_recv() {
        let status = match answer.class {
            Class::Ordinary => "accepted",
            Class::Proof => "durable",
        };
        let line = json!({
            "device": answer.device.as_str(),
            "epoch": answer.epoch.to_string(),
            "ordinal": answer.ordinal.0.to_string(),
            "status": status,
            "class": class_name(answer.class),
        });
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(())
}
