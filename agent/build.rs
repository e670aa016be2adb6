//! Tells the agent when it was built: a certificate that had expired by then
//! has expired on every box, whatever its clock says. And leaves the comments of
//! the example out of its defaults: nobody reads them in the binary, and they
//! are 6 kB.

use std::{
    env, fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

const EXAMPLE: &str = "returnpath-agent.example.toml";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={EXAMPLE}");
    let example = fs::read_to_string(EXAMPLE)?;
    let is_said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let defaults: Vec<&str> = example.lines().filter(is_said).collect();
    let path = Path::new(&env::var("OUT_DIR")?).join("defaults.toml");
    fs::write(path, defaults.join("\n"))?;

    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let unix_s = env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            Some(now.as_secs())
        })
        .unwrap_or(0);
    println!("cargo::rustc-env=RETURNPATH_BUILD_UNIX_S={unix_s}");
    Ok(())
}
