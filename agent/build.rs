//! Tells the agent when it was built: a certificate that had expired by then
//! has expired on every box, whatever its clock says.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() {
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
}
