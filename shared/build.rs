//! Compiles `proto/` with protox (no system `protoc`) into prost messages and
//! their proto3 JSON mapping.

use std::{env, error::Error, path::PathBuf};

use prost_build::Config;
use protox::prost::Message as _;

const PACKAGE: &str = ".returnpath.v1";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../proto");
    let package = root.join("returnpath/v1");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&package)? {
        files.push(entry?.path());
    }
    files.sort();
    println!("cargo::rerun-if-changed={}", package.display());
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }

    let descriptors = protox::compile(&files, [&root])?;
    let descriptor_bytes = descriptors.encode_to_vec();

    Config::new()
        // Byte fields share the buffer they were decoded from.
        .bytes(["."])
        // Maps iterate in one order everywhere, so replays are exact.
        .btree_map(["."])
        .compile_fds(descriptors)?;

    pbjson_build::Builder::new()
        .register_descriptors(&descriptor_bytes)?
        .btree_map(["."])
        .build(&[PACKAGE])?;
    Ok(())
}
