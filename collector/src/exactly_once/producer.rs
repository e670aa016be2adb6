//! The transactional client: what is asked of Kafka, and how its errors are
//! read. May be shared: while one thread commits, another has nothing to ask.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::ConsumerGroupMetadata,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext},
    types::RDKafkaErrorCode,
};
use tracing::{debug, info, warn};

use super::{
    Error, Worker,
    cadence::{BYTES_MAX, RECORDS_MAX},
    classify::{Verdict, classify},
};
use crate::kafka::Context;

/// How long one call may block; then the caller looks around (health, stop)
/// and calls again.
const CALL: Duration = Duration::from_secs(5);

/// Shortest and longest step of waiting for records on their way to Kafka;
/// between, half of what was waited already. librdkafka has nothing to wake us
/// with: successful deliveries are not reported, to save the cost. The client's
/// own `poll` would burn the processor for times this short, and its `flush`
/// looks every 100 ms only.
const DELIVERY_STEP: Duration = Duration::from_millis(1);
const DELIVERY_STEP_MAX: Duration = Duration::from_millis(5);

/// How long the producer collects records of one partition into one request.
/// A commit does not wait for records that came earlier; under load, requests
/// are under way while the rest of the transaction is worked on.
const LINGER_MS: &str = "2";

/// How long a connection may say nothing before the client closes it. Not for
/// the connection's sake: a call that commits offsets looks for the group's
/// coordinator, and where the one that it knew is gone from the cluster it looks
/// again only when some connection of this client comes or goes; its own time
/// limit is never checked (librdkafka issues 5456 and 5511). Without this, the
/// death of one Kafka node stops a role for ever. Above what Kafka takes for
/// any answer; after such a pause in the traffic a transaction connects anew.
const SILENT_CONNECTION_MAX: Duration = Duration::from_secs(30);

/// How often the client asks for the cluster's nodes. Whoever looks for a
/// coordinator needs a connection to ask on: this keeps one from falling
/// silent.
const NODES_ASKED_EVERY: Duration = Duration::from_secs(3);

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Kafka has all of it.
    Committed,
    /// Kafka has none of it.
    Aborted,
}

/// This session can go no further, and why.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

/// What a step of a transaction can lead to.
#[derive(Debug)]
pub(super) enum Failure {
    /// The transaction must be aborted.
    Abort,
    /// The session must be dropped.
    Broken(Broken),
}

/// A producer with its transactional id.
///
/// Has no thread that serves its events: the one of the client's own kind spins
/// through the last millisecond of every tenth of a second. They are served
/// here, at every end of a transaction, and whenever the session has nothing
/// else to do ([`Producer::serve`]).
pub(super) struct Producer(BaseProducer<ProducerLog>);

struct ProducerLog(Context);

impl ClientContext for ProducerLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for ProducerLog {
    type DeliveryOpaque = ();

    /// Called for failures only (`delivery.report.only.error`). The commit
    /// says the same again; here it is known which topic it was.
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        use rdkafka::Message as _;

        if let Err((error, message)) = result {
            debug!(
                topic = message.topic(),
                partition = message.partition(),
                "record not delivered: {error}"
            );
        }
    }
}

impl Producer {
    /// Makes the producer; nothing is asked of Kafka yet.
    pub(super) fn new(worker: &Worker) -> Result<Self, Error> {
        let Worker {
            terms,
            kafka,
            node_id,
            ..
        } = worker;
        let id = format!("{}-{node_id}", terms.group.as_str());
        let mut client = kafka.client_config(&id)?;
        client
            // One a node: a restarted collector ends what it left open. Between
            // nodes the group's generation fences, by the offsets.
            .set("transactional.id", &id)
            .set(
                "transaction.timeout.ms",
                terms.transaction_timeout.as_millis().to_string(),
            )
            .set(
                "connections.max.idle.ms",
                SILENT_CONNECTION_MAX.as_millis().to_string(),
            )
            .set(
                "topic.metadata.refresh.interval.ms",
                NODES_ASKED_EVERY.as_millis().to_string(),
            )
            .set("linger.ms", LINGER_MS)
            .set("compression.codec", "lz4")
            // Never reached: twice what a transaction may hold, and what one
            // batch can add to it.
            .set(
                "queue.buffering.max.messages",
                (2 * RECORDS_MAX).to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                (4 * BYTES_MAX / 1024).to_string(),
            )
            .set("delivery.report.only.error", "true");
        let context = ProducerLog(Context { owner: terms.role });
        Ok(Self(
            client.create_with_context(context).map_err(Error::Client)?,
        ))
    }

    /// Ends what an earlier producer of this id left open. `Ok(false)` when
    /// told to stop before.
    pub(super) fn claim(&self, worker: &Worker) -> Result<bool, Broken> {
        retry(worker, || self.0.init_transactions(CALL)).map_err(|failure| match failure {
            Failure::Broken(broken) => broken,
            Failure::Abort => Broken("the transactional id cannot be claimed".into()),
        })
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        self.0
            .begin_transaction()
            .map_err(|error| failure("transaction not begun", &error))
    }

    /// Adds one record to the transaction, as soon as the client takes it.
    pub(super) fn give(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), Failure> {
        loop {
            match self.0.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    // The bounds of a transaction lie below those of the queue:
                    // this takes a single batch of extreme size.
                    record = back;
                    thread::park_timeout(DELIVERY_STEP);
                }
                Err((error, _)) => return Err(failure("record not taken", &error)),
            }
        }
    }

    /// Takes note of what Kafka's client has to tell, if anything.
    pub(super) fn serve(&self) {
        self.0.poll(Duration::ZERO);
    }

    /// Commits the open transaction together with the offsets of its input, or
    /// aborts it where that is all that can be done.
    pub(super) fn commit(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
        worker: &Worker,
    ) -> Result<Ending, Broken> {
        let done = finished(retry(worker, || {
            self.0.send_offsets_to_transaction(offsets, group, CALL)
        }))
        .and_then(|()| {
            self.await_deliveries(worker.terms.transaction_timeout);
            finished(self.served(|producer| retry(worker, || producer.commit_transaction(CALL))))
        });
        match done {
            Ok(()) => Ok(Ending::Committed),
            Err(Failure::Abort) => self.abort(worker).map(|()| Ending::Aborted),
            Err(Failure::Broken(broken)) => Err(broken),
        }
    }

    /// Undoes the open transaction.
    pub(super) fn abort(&self, worker: &Worker) -> Result<(), Broken> {
        let aborted = self.served(|producer| retry(worker, || producer.abort_transaction(CALL)));
        finished(aborted).map_err(|failure| match failure {
            Failure::Broken(broken) => broken,
            Failure::Abort => Broken("a transaction cannot be aborted".into()),
        })
    }

    /// Waits until no record is on its way. What takes longer than `limit` is
    /// left to the commit, which then says why.
    fn await_deliveries(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            // What could not be delivered counts as on its way until it was
            // told of.
            self.serve();
            if self.0.in_flight_count() == 0 || began.elapsed() >= limit {
                return;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "parked, the bell would wake it for what cannot be done now"
            )]
            thread::sleep((began.elapsed() / 2).clamp(DELIVERY_STEP, DELIVERY_STEP_MAX));
        }
    }

    /// Makes a call that waits for records to be told of, if there are any: an
    /// abort for those that it purges, a commit for those that did not arrive.
    fn served<T>(&self, call: impl FnOnce(&BaseProducer<ProducerLog>) -> T) -> T {
        let producer = &self.0;
        if producer.in_flight_count() == 0 {
            return call(producer);
        }
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let serving = thread::Builder::new().spawn_scoped(scope, || {
                while !is_done.load(Ordering::Acquire) {
                    producer.poll(Duration::ZERO);
                    thread::park_timeout(DELIVERY_STEP);
                }
            });
            if let Err(error) = serving {
                // The call then waits for its own limit before it is made again.
                warn!("no thread to serve Kafka's client: {error}");
                producer.poll(Duration::ZERO);
            }
            let result = call(producer);
            is_done.store(true, Ordering::Release);
            result
        })
    }
}

/// A call that was given up because of a stop leaves its outcome unknown.
fn finished(result: Result<bool, Failure>) -> Result<(), Failure> {
    match result {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Broken(Broken(
            "stopped while Kafka did not answer".into(),
        ))),
        Err(failure) => Err(failure),
    }
}

/// Makes a call until Kafka has answered it. `Ok(false)` when told to stop
/// while it does not answer.
fn retry(
    worker: &Worker,
    mut call: impl FnMut() -> Result<(), KafkaError>,
) -> Result<bool, Failure> {
    let mut was_told = false;
    loop {
        worker.health.progressed();
        let error = match call() {
            Ok(()) => return Ok(true),
            Err(error) => error,
        };
        match classify(&error) {
            Verdict::Retry if worker.is_stopping() && was_told => return Ok(false),
            Verdict::Retry => {
                if !was_told {
                    warn!("waiting for Kafka: {error}");
                }
                was_told = true;
            }
            Verdict::Abort | Verdict::Rebuild => return Err(failure("transaction failed", &error)),
        }
    }
}

fn failure(what: &str, error: &KafkaError) -> Failure {
    match classify(error) {
        Verdict::Abort => {
            // Weather: a rebalance, an election, a record refused.
            info!("aborting the transaction: {what}: {error}");
            Failure::Abort
        }
        Verdict::Retry | Verdict::Rebuild => Failure::Broken(Broken(format!("{what}: {error}"))),
    }
}
