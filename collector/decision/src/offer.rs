//! What every offer must keep to, whoever makes it: bounds.

/// Offers of one answer that are looked at; what lies beyond is not. A slot
/// takes one, and a record holds them all.
pub const OFFERS_MAX: usize = 16;
