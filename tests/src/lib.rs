//! What tests and demo stand on: the development PKI, real brokers started and
//! stopped at will, and the processes of the project under test.
//!
//! Nothing here runs in production, and nothing that runs in production
//! depends on it.

pub mod agent;
pub mod arguments;
pub mod bench;
pub mod cable;
pub mod client;
pub mod collector;
pub mod demo;
pub mod disk;
pub mod faults;
pub mod fleet;
pub mod kafka;
pub mod market;
pub mod mosquitto;
pub mod mqtt_client;
pub mod pki;
pub mod place;
pub mod player;
pub mod process;
pub mod pushes;
pub mod queue_file;
pub mod signer;
pub mod tear;
pub mod wait;
