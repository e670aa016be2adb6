//! `returnpath-dev-brokers`: a real Kafka and a real Mosquitto with
//! development certificates on loopback ports, until it is stopped.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use returnpath_tests::{
    kafka::Kafka,
    mosquitto::Mosquitto,
    pki::{DevelopmentPki, WARNING},
};

/// Starts Apache Kafka (one node) and Mosquitto (TLS, client certificates),
/// prints where they are, and stops them on ctrl-c. NOT FOR PRODUCTION.
#[derive(Parser)]
#[command(name = "returnpath-dev-brokers", version)]
struct Arguments {
    /// Folder for the certificates; made when it is not there.
    directory: PathBuf,
    /// Device ids to make certificates for.
    #[arg(long, value_name = "ID", default_value = "box-1")]
    device: Vec<returnpath_shared::DeviceId>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    io::stderr().write_all(WARNING.as_bytes())?;
    let directory = std::path::absolute(&arguments.directory)?;
    let validity = Duration::from_secs(7 * 24 * 3_600);
    let pki = if directory.join("ca.key").exists() {
        DevelopmentPki::open(&directory, validity)?
    } else {
        DevelopmentPki::create(&directory, validity)?
    };
    for id in &arguments.device {
        pki.device(id)?;
    }
    let kafka = Kafka::start().await?;
    let mosquitto = Mosquitto::start(&pki).await?;
    writeln!(
        io::stdout(),
        "kafka.brokers = \"{}\"\nbroker = \"localhost:{}\"\ncertificates in {}",
        kafka.address(),
        mosquitto.port(),
        directory.display()
    )?;
    tokio::signal::ctrl_c().await.context("wait for ctrl-c")
}
