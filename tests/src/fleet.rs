//! Simulated boxes: households that behave like viewers on a real line-up, on
//! the agent's own delivery core and link. Hundreds to thousands in a process.

pub mod breaks;
pub mod chance;
pub mod lineup;
pub mod moment;
pub mod viewer;
