//! `config show`: what a signed message says.

use std::{io::Write, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use tracing::error;

use super::{Error, print, signed::Signed};
use crate::signing::{PublicKeys, key_id};

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Signed message, as `config sign` writes it.
    file: PathBuf,
    /// Public keys that boxes trust for configuration (PEM): says whether one of
    /// them signed it.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Print it as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is known of the signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signature {
    /// One of the keys made it.
    Good,
    /// None of them did.
    Bad,
    /// No keys were given.
    Unchecked,
}

impl Signature {
    fn of(signed: &Signed, keys: Option<&PublicKeys>) -> Self {
        match keys.map(|keys| signed.is_signed_by(keys)) {
            Some(true) => Self::Good,
            Some(false) => Self::Bad,
            None => Self::Unchecked,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unchecked => "unchecked",
        }
    }
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<ExitCode, Error> {
    let signed = Signed::read(&args.file)?;
    let keys = args.keys.as_deref().map(PublicKeys::read).transpose()?;
    let signature = Signature::of(&signed, keys.as_ref());
    if args.json {
        print(out, as_json(&signed, signature))?;
    } else {
        print(out, as_text(&signed, signature))?;
    }
    if signature == Signature::Bad {
        error!("none of these keys signed it; a box that trusts them refuses it");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Settings in the order of the message, and what each says.
fn settings(signed: &Signed) -> [(&'static str, Option<u32>); 4] {
    let config = &signed.config;
    [
        ("batch_interval_ms", config.batch_interval_ms),
        ("window_batches_max", config.window_batches_max),
        ("backlog_rate", config.backlog_rate),
        ("reconnect_spread_ms", config.reconnect_spread_ms),
    ]
}

fn key_ids(signed: &Signed) -> Vec<String> {
    let keys = signed.config.decision_keys.iter();
    keys.map(|raw| key_id(raw)).collect()
}

fn as_text(signed: &Signed, signature: Signature) -> String {
    let config = &signed.config;
    let boxes = match config.device_id.as_str() {
        "" => "every box",
        device => device,
    };
    let mut lines = vec![
        ("version", config.version.to_string()),
        ("for", boxes.to_owned()),
    ];
    let own = || "as in the box's file".to_owned();
    for (name, value) in settings(signed) {
        lines.push((name, value.map_or_else(own, |value| value.to_string())));
    }
    let keys = key_ids(signed);
    let keys = if keys.is_empty() {
        own()
    } else {
        keys.join(" ")
    };
    lines.push(("decision_keys", keys));
    let signature = match signature {
        Signature::Good => "good",
        Signature::Bad => "BAD: not by any of --keys",
        Signature::Unchecked => "not checked; --keys says whose to trust",
    };
    lines.push(("signed with key", signed.key_id().to_owned()));
    lines.push(("signature", signature.to_owned()));
    let lines = lines.iter().map(|(name, said)| format!("{name:<21}{said}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn as_json(signed: &Signed, signature: Signature) -> Value {
    let config = &signed.config;
    let mut object = json!({
        "version": config.version,
        "device_id": Some(&config.device_id).filter(|id| !id.is_empty()),
        "decision_key_ids": key_ids(signed),
        "key_id": signed.key_id(),
        "signature": signature.name(),
    });
    for (name, value) in settings(signed) {
        object[name] = value.into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::signed::tests::{Folder, signed};

    #[test]
    fn a_person_reads_who_it_is_for_and_whether_it_is_good() {
        let folder = Folder::new("show");
        let (mine, public) = signed(&folder, "");
        let keys = PublicKeys::read(&public).unwrap();
        let text = as_text(&mine, Signature::of(&mine, Some(&keys)));
        assert!(text.starts_with("version              7\nfor                  every box\n"));
        assert!(
            text.contains("backlog_rate         as in the box's file\n"),
            "{text}"
        );
        assert!(text.ends_with("signature            good"), "{text}");
        let text = as_text(&mine, Signature::of(&mine, None));
        assert!(text.contains("signature            not checked"), "{text}");
    }

    #[test]
    fn a_program_reads_the_same_and_the_exit_code() {
        let folder = Folder::new("show-json");
        let (mine, public) = signed(&folder, "box-1");
        let keys = PublicKeys::read(&public).unwrap();
        let object = as_json(&mine, Signature::of(&mine, Some(&keys)));
        let expected = json!({
            "version": 7, "device_id": "box-1", "batch_interval_ms": null,
            "window_batches_max": null, "backlog_rate": null, "reconnect_spread_ms": null,
            "decision_key_ids": [], "key_id": mine.key_id(), "signature": "good",
        });
        assert_eq!(object, expected);

        let file = folder.file("message", &mine.message);
        let code = |keys: Option<PathBuf>| {
            let args = Args {
                file: file.clone(),
                keys,
                json: true,
            };
            run(&args, &mut Vec::new()).unwrap()
        };
        assert_eq!(code(Some(public)), ExitCode::SUCCESS);
        assert_eq!(code(None), ExitCode::SUCCESS);
        assert_eq!(code(Some(folder.keys("others.pem", 1))), ExitCode::FAILURE);
    }
}
