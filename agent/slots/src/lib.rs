//! The pure core of the way back on the box: which decision each ad slot is
//! bound to, what is refused and why, what is handed to players, what is told
//! to the cloud.
//!
//! Time, stored rows and the verdict on a signature are arguments; commits,
//! answers and events are values that the shell carries out. Neither SQLite,
//! MQTT nor a clock is known here.
#![no_std]
