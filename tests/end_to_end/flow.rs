//! A client that keeps handing in events while things happen around it, as
//! fast as it is answered.

use anyhow::Context as _;
use returnpath_tests::client::Client;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, timeout},
};

use crate::event;

/// A step of the flow takes as long as its proof takes to become durable,
/// which a fault may delay.
const STEPS_LIMIT: Duration = Duration::from_secs(60);

/// A flow that runs until it is stopped.
pub(crate) struct Flow {
    steps: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Client>>,
}

impl Flow {
    /// Starts to hand in, step by step, a tune, then an impression, whose
    /// answer is waited for. Decisions are called `{name}-{step}`.
    pub(crate) fn start(name: &'static str, mut client: Client) -> Self {
        let (step, steps) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            for number in 1_u64.. {
                if *stopped.borrow() {
                    break;
                }
                client.expect("accepted", &event::tune(1)).await?;
                let impression = event::impression(&format!("{name}-{number}"));
                client.expect("durable", &impression).await?;
                step.send_replace(number);
            }
            Ok(client)
        });
        Self { steps, stop, task }
    }

    /// Waits until `count` more steps have been answered.
    pub(crate) async fn more(&mut self, count: u64) -> anyhow::Result<()> {
        let wanted = *self.steps.borrow() + count;
        let reached = timeout(STEPS_LIMIT, self.steps.wait_for(|steps| *steps >= wanted)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => (&mut self.task).await?.map(drop).context("the flow ended"),
            Err(_) => Err(anyhow::anyhow!("the flow did not reach step {wanted}")),
        }
    }

    /// Stops after the step that is under way.
    pub(crate) async fn stop(self) -> anyhow::Result<Client> {
        self.stop.send_replace(true);
        self.task.await?.context("the flow")
    }
}
