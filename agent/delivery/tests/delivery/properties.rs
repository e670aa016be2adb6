//! After every generated action the named invariants hold; in the end, with a
//! good link and a good disk, everything is accounted for.
//!
//! `PROPTEST_CASES=20000` searches longer.

use proptest::{collection::vec, prelude::*};

use crate::{action::action, world::World};

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        ..ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").map_or(600, |cases| cases.parse().unwrap()))
    })]

    #[test]
    fn every_event_is_delivered_or_declared(
        actions in vec(action(), 1..150),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(seed);
        for action in actions {
            world.apply(action);
            world.invariants();
        }
        world.come_to_rest();
        world.invariant_everything_is_accounted_for();
    }
}
