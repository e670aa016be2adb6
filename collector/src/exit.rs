//! What the process ends with, besides 0, 1 and clap's 2; numbers of
//! sysexits.h, for supervisors and scripts.

/// A file that was given to sign or to publish is wrong (`EX_DATAERR`).
pub const INPUT: u8 = 65;

/// The configuration is wrong (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
