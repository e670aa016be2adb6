//! What stands in a node's `server.properties`: as Kafka comes, except for the
//! number of copies, and for times and sizes that would only make tests slow.

use std::path::Path;

/// A node that is its own quorum.
pub(super) fn alone(directory: &Path, port: u16, controller_port: u16) -> String {
    let quorum = format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}");
    properties(directory, 1, port, controller_port, &quorum, 1, 1)
}

/// Node `id` of several, all of them brokers and controllers; `voters` names
/// the controllers, `id@host:port`, comma-separated.
pub(super) fn of_cluster(
    directory: &Path,
    id: usize,
    port: u16,
    controller_port: u16,
    voters: &str,
) -> String {
    let quorum = format!("controller.quorum.voters={voters}");
    properties(directory, id, port, controller_port, &quorum, 3, 2)
}

fn properties(
    directory: &Path,
    id: usize,
    port: u16,
    controller_port: u16,
    quorum: &str,
    replication: u8,
    min_in_sync_replicas: u8,
) -> String {
    let data = directory.join("data");
    format!(
        "\
process.roles=broker,controller
node.id={id}
{quorum}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false

offsets.topic.replication.factor={replication}
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={min_in_sync_replicas}
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr={min_in_sync_replicas}

# Few partitions of Kafka's own topics: each is a file to create and to load.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1

# What would only make tests wait.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
",
        data = data.display()
    )
}
