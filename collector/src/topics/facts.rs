//! Asks Kafka what its topics are like, and makes missing ones.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    error::{KafkaError, RDKafkaErrorCode},
};
use thiserror::Error;

use crate::{
    kafka::{self, Context, TopicNames},
    topics::spec::Spec,
};

/// How long Kafka may take to answer one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a topic just made may take to be seen by all brokers.
const APPEARS_WITHIN: Duration = Duration::from_secs(30);

/// What Kafka says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Those of our topics that exist.
    pub topics: Vec<TopicFacts>,
    /// Settings of one broker; `None` where they cannot be read.
    pub broker: Option<BTreeMap<String, String>>,
}

/// What Kafka says about one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Copies of that partition which has the fewest.
    pub replication: u32,
    /// Its settings as they take effect; `None` where they cannot be read.
    pub settings: Option<BTreeMap<String, String>>,
}

impl Facts {
    /// The topic of this name, if it exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&TopicFacts> {
        self.topics.iter().find(|topic| topic.name == name)
    }
}

impl TopicFacts {
    /// A setting that is a number.
    #[must_use]
    pub fn number(&self, setting: &str) -> Option<u64> {
        self.settings.as_ref()?.get(setting)?.parse().ok()
    }
}

/// Why nothing is known about the topics.
#[derive(Debug, Error)]
pub enum FactsError {
    /// The configuration names a file that cannot be used.
    #[error("cannot read what the Kafka client needs")]
    File(#[from] kafka::FileError),
    /// librdkafka does not take its configuration.
    #[error("cannot make a Kafka client")]
    Client(#[source] KafkaError),
    /// No broker answered.
    #[error("no answer from Kafka at {brokers}")]
    Unreachable {
        /// The brokers that were asked.
        brokers: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// A topic could not be made.
    #[error("cannot create topic {name}: {code}")]
    Create {
        /// Its name.
        name: String,
        /// What Kafka said.
        code: RDKafkaErrorCode,
    },
    /// A topic was made and is not seen by all brokers.
    #[error("topic {name} was created and has not appeared within {} s", APPEARS_WITHIN.as_secs())]
    Hidden {
        /// Its name.
        name: String,
    },
}

/// A client that asks and creates.
pub(super) struct Admin {
    client: Arc<AdminClient<Context>>,
    brokers: String,
}

impl Admin {
    pub(super) fn new(kafka: &kafka::Config, owner: &'static str) -> Result<Self, FactsError> {
        let config: ClientConfig = kafka.client_config(&format!("returnpath-{owner}"))?;
        let client = config
            .create_with_context(Context { owner })
            .map_err(FactsError::Client)?;
        Ok(Self {
            client: Arc::new(client),
            brokers: kafka.brokers.join(","),
        })
    }

    /// What Kafka is like.
    pub(super) async fn facts(&self, names: &TopicNames) -> Result<Facts, FactsError> {
        let unreachable = |source| FactsError::Unreachable {
            brokers: self.brokers.clone(),
            source,
        };
        let client = Arc::clone(&self.client);
        let metadata =
            tokio::task::spawn_blocking(move || client.inner().fetch_metadata(None, ANSWER_WITHIN))
                .await
                .map_err(|_| unreachable(KafkaError::Canceled))?
                .map_err(unreachable)?;
        let mut facts = Facts::default();
        for topic in metadata.topics() {
            if names.all().contains(&topic.name()) && !topic.partitions().is_empty() {
                let copies = topic.partitions().iter().map(|part| part.replicas().len());
                facts.topics.push(TopicFacts {
                    name: topic.name().to_owned(),
                    partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
                    replication: copies.min().and_then(|n| n.try_into().ok()).unwrap_or(0),
                    settings: None,
                });
            }
        }
        let broker = metadata.brokers().first().map(|broker| broker.id());
        drop(metadata);
        facts.topics.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(broker) = broker {
            match self.settings(&[ResourceSpecifier::Broker(broker)]).await {
                Ok(mut settings) => facts.broker = settings.pop().flatten(),
                // A stand-in for Kafka that tells no settings; asking it about
                // topics would only take its time.
                Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => return Ok(facts),
                // Asking about brokers may be forbidden where topics are not.
                Err(_) => {}
            }
        }
        let names: Vec<String> = facts
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        let resources: Vec<_> = names
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        let settings = self.settings(&resources).await.unwrap_or_default();
        for (topic, settings) in facts.topics.iter_mut().zip(settings) {
            topic.settings = settings;
        }
        Ok(facts)
    }

    /// As [`Admin::facts`], once the topics just created are there.
    pub(super) async fn facts_with(
        &self,
        names: &TopicNames,
        created: &[String],
    ) -> Result<Facts, FactsError> {
        let deadline = tokio::time::Instant::now() + APPEARS_WITHIN;
        loop {
            let facts = self.facts(names).await?;
            let hidden = created.iter().find(|name| {
                facts
                    .topic(name)
                    .is_none_or(|topic| topic.settings.is_none())
            });
            match hidden {
                None => return Ok(facts),
                Some(name) if tokio::time::Instant::now() >= deadline => {
                    return Err(FactsError::Hidden { name: name.clone() });
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Settings as they take effect, in the order asked; `None` where Kafka
    /// does not tell them.
    async fn settings(
        &self,
        of: &[ResourceSpecifier<'_>],
    ) -> Result<Vec<Option<BTreeMap<String, String>>>, KafkaError> {
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        let answers = self.client.describe_configs(of, &options).await?;
        // One answer to each question, in the order of the questions.
        Ok(answers
            .into_iter()
            .map(|answer| answer.ok().map(values))
            .collect())
    }

    /// Creates topics that are missing, with as many partitions as those have
    /// that exist, and names them.
    pub(super) async fn create_missing(
        &self,
        specs: &[Spec],
        facts: &Facts,
    ) -> Result<Vec<String>, FactsError> {
        let existing = facts.topics.first().map(|topic| topic.partitions);
        let missing: Vec<NewTopic<'_>> = specs
            .iter()
            .filter(|spec| facts.topic(&spec.name).is_none())
            .map(|spec| NewTopic {
                name: &spec.name,
                num_partitions: count(existing.unwrap_or(spec.partitions)),
                replication: TopicReplication::Fixed(count(spec.replication)),
                config: spec
                    .settings
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect(),
            })
            .collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let options = AdminOptions::new()
            .request_timeout(Some(ANSWER_WITHIN))
            .operation_timeout(Some(ANSWER_WITHIN));
        let answers = self
            .client
            .create_topics(&missing, &options)
            .await
            .map_err(|source| FactsError::Unreachable {
                brokers: self.brokers.clone(),
                source,
            })?;
        let mut created = Vec::new();
        for answer in answers {
            match answer {
                Ok(name) => created.push(name),
                // Another collector was faster; what it made is checked.
                Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => created.push(name),
                Err((name, code)) => return Err(FactsError::Create { name, code }),
            }
        }
        Ok(created)
    }
}

fn values(resource: ConfigResource) -> BTreeMap<String, String> {
    resource
        .entries
        .into_iter()
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect()
}

/// Counts are bounded by the configuration, far below `i32::MAX`.
fn count(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
