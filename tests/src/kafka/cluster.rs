//! Three nodes as production has them: each broker and controller, three
//! copies of everything, two of which must have a record before it counts.

use super::{Kafka, properties};
use crate::place;

/// What replication needs at least to say anything: with one node killed
/// writing goes on, with two it must not.
const NODES: usize = 3;

/// Three of them share the machine of a test.
const HEAP_OPTION: &str = "-Xmx256m";

/// Three Kafka nodes. Killed on drop.
pub struct Cluster {
    /// Each can be killed and started again by itself.
    pub nodes: Vec<Kafka>,
}

impl Cluster {
    /// Formats three data folders, and starts nodes on them.
    ///
    /// # Errors
    /// When Kafka is not installed, or they do not answer in time.
    pub async fn start() -> anyhow::Result<Self> {
        let mut ports = Vec::new();
        for _ in 0..NODES {
            ports.push((place::free_port()?, place::free_port()?));
        }
        let voters: Vec<_> = (1..)
            .zip(&ports)
            .map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}"))
            .collect();
        let voters = voters.join(",");
        let mut nodes = Vec::new();
        for (id, (port, controller)) in (1..).zip(ports) {
            let directory = place::fresh_directory("kafka-node")?;
            let text = properties::of_cluster(&directory, id, port, controller, &voters);
            let node = Kafka::prepare(directory, port, &text, HEAP_OPTION)?;
            node.format(&[]).await?;
            nodes.push(node);
        }
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        for node in &mut cluster.nodes {
            node.resume().await?;
        }
        Ok(cluster)
    }

    /// Where clients connect, `host:port` each.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Kafka::address).collect()
    }
}
