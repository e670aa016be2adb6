//! Waiting for a condition: the only way in which tests wait.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

/// Pause between two looks at a condition: short against anything waited for,
/// long enough that looking costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An error that no waiting will mend, for instance that a process ended:
/// [`wait_until`] gives up at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Hopeless(pub String);

/// Looks at `condition` until it holds, and returns what it gave. An error
/// means *not yet* and says what was seen instead.
///
/// # Errors
/// After `limit`, or at once when the condition is [`Hopeless`]: says what was
/// waited for, and what was seen last.
pub async fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        let seen = match condition().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        let waited = started.elapsed();
        if waited >= limit || seen.is::<Hopeless>() {
            let waited = waited.as_secs_f32();
            return Err(seen).with_context(|| format!("waited {waited:.1} s for {what}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{bail, ensure};

    #[tokio::test]
    async fn it_returns_what_the_condition_gives_when_it_holds() {
        let mut looks = 0;
        let value = wait_until("the third look", Duration::from_secs(5), async || {
            looks += 1;
            ensure!(looks == 3, "look {looks}");
            Ok("seen")
        })
        .await;
        assert_eq!(value.unwrap(), "seen");
    }

    #[tokio::test]
    async fn it_says_what_it_waited_for_and_what_it_saw_last() {
        let error = wait_until("a miracle", Duration::from_millis(1), async || {
            bail!("a mere coincidence") as anyhow::Result<()>
        })
        .await
        .unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("for a miracle: a mere coincidence"), "{said}");
    }

    #[tokio::test]
    async fn it_gives_up_at_once_when_there_is_no_hope() {
        let started = Instant::now();
        wait_until("the dead", Duration::from_secs(60), async || {
            Err::<(), _>(Hopeless("ended".into()).into())
        })
        .await
        .unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
