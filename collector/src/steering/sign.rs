//! `config sign`: from a file of settings to a message that boxes obey. Needs
//! no network and no configuration of a collector, only the key.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{Error, print, settings, settings::SettingsError, signed::Signed};
use crate::signing::{SigningKey, key_id};

/// What to sign, with what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Settings for boxes, TOML or JSON.
    settings: PathBuf,
    /// Private key of configuration, Ed25519 as PKCS#8 in PEM. Another one than
    /// that of decisions; kept where nobody else reads it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed message is written; replaced if it is there.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Print what was signed as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<ExitCode, Error> {
    let config = settings::read(&args.settings)?;
    let key = SigningKey::read(&args.key)?;
    let mut keys = config.decision_keys.iter();
    if keys.any(|raw| key_id(raw) == key.key_id()) {
        // Else whoever can decide could also replace the keys of decisions.
        return Err(SettingsError::Key {
            path: args.settings.clone(),
            key: "decision_keys".into(),
            reason: "expected other keys than --key: configuration has one of its own".into(),
        }
        .into());
    }
    let signed = Signed::new(config, &key);
    write(&args.out, &signed.message)?;
    let version = signed.config.version;
    let (signer, file) = (signed.key_id(), args.out.display().to_string());
    if args.json {
        print(
            out,
            json!({
                "version": version,
                "key_id": signer,
                "file": file,
                "bytes": signed.message.len(),
            }),
        )?;
    } else {
        print(
            out,
            format_args!("version {version}, signed with key {signer}: {file}"),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, message: &[u8]) -> Result<(), Error> {
    fs::write(path, message).map_err(|source| Error::Write {
        place: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::PublicKeys;
    use crate::steering::signed::tests::Folder;

    fn args(folder: &Folder, settings: &str, key: PathBuf) -> Args {
        Args {
            settings: folder.file("settings.toml", settings.as_bytes()),
            key,
            out: folder.path("signed"),
            json: true,
        }
    }

    #[test]
    fn a_file_of_settings_becomes_a_message_that_its_key_signed() {
        let folder = Folder::new("sign");
        let (private, public) = folder.pair("config");
        let args = args(&folder, "version = 9\nbacklog_rate = 3", private);
        run(&args, &mut Vec::new()).unwrap();
        let signed = Signed::read(&args.out).unwrap();
        assert_eq!(signed.config.version, 9);
        assert_eq!(signed.config.backlog_rate, Some(3));
        assert!(signed.is_signed_by(&PublicKeys::read(&public).unwrap()));
    }

    #[test]
    fn a_key_does_not_name_itself_as_one_of_decisions() {
        let folder = Folder::new("sign-own");
        let (private, _) = folder.pair("config");
        let settings = "version = 1\ndecision_keys = \"config.pub\"";
        let args = args(&folder, settings, private);
        let error = run(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(
            error.contains("decision_keys: expected other keys"),
            "{error}"
        );
        assert!(!args.out.exists(), "nothing was signed");
    }
}
