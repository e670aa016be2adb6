//! `returnpath-dev-pki`: makes certificates for development, and says so.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use returnpath_shared::DeviceId;
use returnpath_tests::pki::{DevelopmentPki, WARNING};

/// Longest validity: what is meant for a test must not live on in a product.
const DAYS_MAX: u64 = 90;

/// Makes an authority, a broker, two collectors, an ad market, devices, and keys
/// that sign decisions and configuration. NOT FOR PRODUCTION: the authority's key lies unencrypted beside the rest.
#[derive(Parser)]
#[command(name = "returnpath-dev-pki", version)]
struct Arguments {
    /// Folder to write; an authority that is already there signs more devices.
    directory: PathBuf,
    /// Devices to make, called {prefix}1, {prefix}2, …
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    devices: u32,
    /// What the names of the counted devices begin with.
    #[arg(long, default_value = "box-", value_name = "TEXT")]
    prefix: String,
    /// A device by its id; may be repeated.
    #[arg(long, value_name = "ID")]
    device: Vec<DeviceId>,
    /// Days until the certificates expire, 1 to 90.
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    days: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let validity = Duration::from_secs(arguments.days * 24 * 3_600);
    let mut devices = arguments.device;
    for number in 1..=arguments.devices {
        let id = format!("{}{number}", arguments.prefix);
        devices.push(id.parse().with_context(|| format!("device {id:?}"))?);
    }
    let directory = &arguments.directory;
    let pki = if directory.join("ca.key").exists() {
        ensure!(
            !devices.is_empty(),
            "{} holds an authority already: name devices to add, or another folder",
            directory.display()
        );
        DevelopmentPki::open(directory, validity)?
    } else {
        DevelopmentPki::create(directory, validity)?
    };
    for id in &devices {
        pki.device(id)?;
    }
    io::stderr().write_all(WARNING.as_bytes())?;
    writeln!(
        io::stdout(),
        "{}: authority, broker, collectors a and b, aggregators, signing keys, {} device(s) added, valid for {} day(s)",
        directory.display(),
        devices.len(),
        arguments.days,
    )?;
    Ok(())
}
