//! Seeds of tests that draw what happens.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

/// Set to a seed to have it happen again.
const VARIABLE: &str = "RETURNPATH_FAULTS_SEED";

/// Runs `test` with the seed that is asked for, or a fresh one, which is told
/// when it fails. `name` finds the test that this is.
pub(crate) async fn with_seed(
    name: &str,
    test: impl AsyncFnOnce(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let seed = match env::var(VARIABLE) {
        Ok(seed) => seed.parse().context("a seed is a whole number")?,
        Err(_) => u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?,
    };
    test(seed).await.with_context(|| {
        format!(
            "this seed failed; repeat it by\n  {VARIABLE}={seed} cargo test \
             -p returnpath-tests --test end_to_end {name}"
        )
    })
}
