//! What every role on the engine counts.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::Input;

/// Name and value: one label, whose name is the role's word for its inputs.
type Label = [(&'static str, &'static str); 1];

/// What every role on the engine counts. Cheap to clone: all clones count
/// together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    labels: [Label; Input::ALL.len()],
    records: Family<Label, Counter>,
    expired: Family<Label, Counter>,
    lag_milliseconds: Family<Label, Gauge>,
    pub(super) transactions_committed: Counter,
    pub(super) transactions_aborted: Counter,
    pub(super) sessions_rebuilt: Counter,
    pub(super) transaction_seconds: Histogram,
    pub(super) commit_seconds: Histogram,
    pub(super) restore_seconds: Histogram,
    pub(super) partitions: Gauge,
    pub(super) devices: Gauge,
}

impl Metrics {
    /// Registers every metric. What is counted by input bears the label
    /// `label` with one of `inputs`, by [`Input`] as index.
    pub(crate) fn register(
        registry: &mut Registry,
        label: &'static str,
        inputs: [&'static str; Input::ALL.len()],
    ) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            labels: inputs.map(|input| [(label, input)]),
            records: Family::default(),
            expired: Family::default(),
            lag_milliseconds: Family::default(),
            transactions_committed: Counter::default(),
            transactions_aborted: Counter::default(),
            sessions_rebuilt: Counter::default(),
            transaction_seconds: seconds(),
            commit_seconds: seconds(),
            restore_seconds: seconds(),
            partitions: Gauge::default(),
            devices: Gauge::default(),
        };
        metrics.register_all(registry);
        metrics
    }

    fn register_all(&self, registry: &mut Registry) {
        let mut counter = |name, help, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter(
            "transactions_committed",
            "Transactions that Kafka committed",
            &self.transactions_committed,
        );
        counter(
            "transactions_aborted",
            "Transactions undone and read again",
            &self.transactions_aborted,
        );
        counter(
            "sessions_rebuilt",
            "Times that all state was dropped and loaded again",
            &self.sessions_rebuilt,
        );
        registry.register("records", "Records read, committed", self.records.clone());
        registry.register(
            "expired",
            "Records that Kafka deleted before they were read",
            self.expired.clone(),
        );
        registry.register_with_unit(
            "transaction",
            "From the first record of a transaction to its end",
            Unit::Seconds,
            self.transaction_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "What committing takes of it",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register_with_unit(
            "restore",
            "Loading the state of newly assigned partitions",
            Unit::Seconds,
            self.restore_seconds.clone(),
        );
        registry.register(
            "lag_milliseconds",
            "Age of the newest record of the last transaction; 0 when all is read",
            self.lag_milliseconds.clone(),
        );
        registry.register("partitions", "Partitions owned", self.partitions.clone());
        registry.register("devices", "Boxes known", self.devices.clone());
    }

    pub(super) fn add_records(&self, input: Input, count: u64) {
        self.records.get_or_create(self.label(input)).inc_by(count);
    }

    pub(super) fn add_expired(&self, input: Input, count: u64) {
        self.expired.get_or_create(self.label(input)).inc_by(count);
    }

    pub(super) fn set_lag(&self, input: Input, lag_ms: i64) {
        self.lag_milliseconds
            .get_or_create(self.label(input))
            .set(lag_ms);
    }

    fn label(&self, input: Input) -> &Label {
        &self.labels[input as usize]
    }
}
