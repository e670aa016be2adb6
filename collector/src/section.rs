//! What sections of the configuration are parsed with: tables before they have
//! a type, and forms of single values. Knows no section; each stands where it is
//! used, and `config` joins them.

pub(crate) mod table;
pub(crate) mod value;
