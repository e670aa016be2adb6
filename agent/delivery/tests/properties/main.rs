//! Generated lives of a box against a model of its queue file and of the
//! cloud. After every action the named invariants hold; in the end, with a
//! good link and a good disk, everything is accounted for.

mod action;
mod cloud;
mod disk;
mod world;

use proptest::{collection::vec, prelude::*};

use action::action;
use world::World;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
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
