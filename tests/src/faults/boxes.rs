//! Boxes with real agents, and a middleware each.

use super::{
    middleware::{Handed, Middleware},
    stage::Stage,
};
use crate::agent::Agent;

/// Running boxes. They end when this is dropped.
pub struct Boxes {
    /// Their agents.
    pub agents: Vec<Agent>,
    middlewares: Vec<Middleware>,
}

impl Boxes {
    /// Starts boxes called box-1, box-2, …, which reach the broker at this
    /// port, and has events handed to all of them.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(stage: &Stage, count: u64, mqtt_port: u16) -> anyhow::Result<Self> {
        let mut boxes = Self {
            agents: Vec::new(),
            middlewares: Vec::new(),
        };
        for number in 1..=count {
            let mut agent = stage.agent(&format!("box-{number}"), mqtt_port)?;
            agent.start().await?;
            boxes
                .middlewares
                .push(Middleware::start(&agent, &stage.answers(), number));
            boxes.agents.push(agent);
        }
        Ok(boxes)
    }

    /// Hands in no more, once everything that was told is answered. The agents
    /// stay, with what they hold.
    ///
    /// # Errors
    /// As [`Middleware::stop`].
    pub async fn stop_handing_in(&mut self) -> anyhow::Result<Handed> {
        let mut handed = Handed::default();
        for middleware in self.middlewares.drain(..) {
            handed.add(middleware.stop().await?);
        }
        Ok(handed)
    }

    /// A number of the agents' `status --json`, by JSON pointer, summed.
    ///
    /// # Errors
    /// When an agent does not answer.
    pub async fn sum(&self, pointer: &str) -> anyhow::Result<u64> {
        let mut sum = 0;
        for agent in &self.agents {
            let status = agent.status().await?;
            let number = status.pointer(pointer).and_then(|number| number.as_u64());
            sum += number.unwrap_or_default();
        }
        Ok(sum)
    }

    /// Batches that the boxes still hold.
    ///
    /// # Errors
    /// When an agent does not answer.
    pub async fn held(&self) -> anyhow::Result<u64> {
        Ok(self.sum("/queue/ordinary/batches").await? + self.sum("/queue/proof/batches").await?)
    }
}
