//! How one offer is chosen among those that stand. A function of what is
//! recorded and of nothing else, so that it can be made again.

use returnpath_shared::wire::{
    AggregatorRecord, Choice, Decided, Exclusion, NoFill, OfferFault, OfferRecord, Policy,
    PolicyKind,
};

/// Makes the choice of a recorded decision again, from its recorded inputs
/// alone: the policy, and each aggregator's offers with what was wrong with
/// them. Where the policy was never asked, because the opportunity came too
/// late or could not be remembered, that stands as it is recorded.
#[must_use]
pub fn replay(decided: &Decided) -> Choice {
    let recorded = decided
        .choice
        .as_ref()
        .map_or(NoFill::Unspecified, |choice| choice.no_fill());
    match recorded {
        NoFill::Expired | NoFill::StateBound => nothing(recorded),
        NoFill::Unspecified | NoFill::NobodyAsked | NoFill::NoOffer | NoFill::NoOfferStood => {
            let policy = decided.policy.clone().unwrap_or_default();
            choose(&policy, &decided.aggregators)
        }
    }
}

/// The choice of a policy. Both kinds always choose the same of the same
/// offers: the probability of their choice is 1.
pub(crate) fn choose(policy: &Policy, aggregators: &[AggregatorRecord]) -> Choice {
    let mut chosen: Option<(usize, usize, Worth)> = None;
    for (place, aggregator) in aggregators.iter().enumerate() {
        let Some((offer, worth)) = best_offer(&aggregator.offers) else {
            continue;
        };
        let is_better = match policy.kind() {
            PolicyKind::HighestPrice => chosen.is_none_or(|(_, _, best)| worth > best),
            PolicyKind::Waterfall | PolicyKind::Unspecified => chosen.is_none(),
        };
        if is_better {
            chosen = Some((place, offer, worth));
        }
    }
    match chosen {
        Some((aggregator, offer, _)) => Choice {
            aggregator: u32::try_from(aggregator).ok(),
            offer: u32::try_from(offer).ok(),
            no_fill: NoFill::Unspecified.into(),
            probability: 1.0,
        },
        None => nothing(why_nothing(aggregators)),
    }
}

/// The choice to pick nothing.
pub(crate) fn nothing(no_fill: NoFill) -> Choice {
    Choice {
        aggregator: None,
        offer: None,
        no_fill: no_fill.into(),
        probability: 1.0,
    }
}

/// Whether an offer stands.
pub(crate) fn stands(offer: &OfferRecord) -> bool {
    offer.fault() == OfferFault::Unspecified && offer.offer.is_some()
}

/// What an offer pays: any price is more than none.
type Worth = Option<i64>;

/// The offer of one aggregator that pays most, of equal ones the first.
fn best_offer(offers: &[OfferRecord]) -> Option<(usize, Worth)> {
    let mut best: Option<(usize, Worth)> = None;
    for (place, record) in offers.iter().enumerate() {
        let worth = record.offer.as_ref().and_then(|offer| offer.price_micros);
        if stands(record) && best.is_none_or(|(_, most)| worth > most) {
            best = Some((place, worth));
        }
    }
    best
}

fn why_nothing(aggregators: &[AggregatorRecord]) -> NoFill {
    let is_asked = |aggregator: &AggregatorRecord| aggregator.exclusion() == Exclusion::Unspecified;
    if !aggregators.iter().any(is_asked) {
        NoFill::NobodyAsked
    } else if aggregators.iter().all(|one| one.offers.is_empty()) {
        NoFill::NoOffer
    } else {
        NoFill::NoOfferStood
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use returnpath_shared::wire::Offer;

    use super::*;

    /// Offers of one aggregator, by price; a negative one is faulted.
    fn asked(prices: &[Option<i64>]) -> AggregatorRecord {
        let offer = |price: &Option<i64>| OfferRecord {
            offer: Some(Offer {
                price_micros: price.map(i64::abs),
                ..Offer::default()
            }),
            fault: if price.is_some_and(|price| price < 0) {
                OfferFault::Duration.into()
            } else {
                OfferFault::Unspecified.into()
            },
            ..OfferRecord::default()
        };
        AggregatorRecord {
            offers: prices.iter().map(offer).collect(),
            ..AggregatorRecord::default()
        }
    }

    fn excluded() -> AggregatorRecord {
        AggregatorRecord {
            exclusion: Exclusion::BreakerOpen.into(),
            ..AggregatorRecord::default()
        }
    }

    #[test]
    fn each_policy_chooses_by_its_rule() {
        use PolicyKind::{HighestPrice, Waterfall};
        let some = |prices: &[i64]| asked(&prices.iter().copied().map(Some).collect::<Vec<_>>());
        let rows = [
            (Waterfall, vec![some(&[1, 3, 3]), some(&[9])], Ok((0, 1))),
            (Waterfall, vec![some(&[]), some(&[2])], Ok((1, 0))),
            (Waterfall, vec![some(&[-9, 1]), some(&[2])], Ok((0, 1))),
            (Waterfall, vec![some(&[-9]), some(&[2])], Ok((1, 0))),
            (Waterfall, vec![excluded(), asked(&[None])], Ok((1, 0))),
            (Waterfall, vec![asked(&[None, Some(0)])], Ok((0, 1))),
            (HighestPrice, vec![some(&[1, 3]), some(&[9])], Ok((1, 0))),
            (HighestPrice, vec![some(&[9]), some(&[9])], Ok((0, 0))),
            (HighestPrice, vec![some(&[2]), some(&[-9, 3])], Ok((1, 1))),
            (
                HighestPrice,
                vec![excluded(), excluded()],
                Err(NoFill::NobodyAsked),
            ),
            (HighestPrice, vec![], Err(NoFill::NobodyAsked)),
            (
                HighestPrice,
                vec![excluded(), some(&[])],
                Err(NoFill::NoOffer),
            ),
            (
                Waterfall,
                vec![some(&[]), some(&[-1])],
                Err(NoFill::NoOfferStood),
            ),
        ];
        for (kind, aggregators, expected) in rows {
            let policy = Policy {
                kind: kind.into(),
                ..Policy::default()
            };
            let choice = choose(&policy, &aggregators);
            let expected = match expected {
                Ok((aggregator, offer)) => Choice {
                    aggregator: Some(aggregator),
                    offer: Some(offer),
                    ..nothing(NoFill::Unspecified)
                },
                Err(no_fill) => nothing(no_fill),
            };
            assert_eq!(choice, expected, "{kind:?} of {aggregators:?}");
            let decided = Decided {
                policy: Some(policy),
                aggregators,
                choice: Some(choice),
                ..Decided::default()
            };
            assert_eq!(replay(&decided), choice);
        }
    }

    #[test]
    fn what_the_policy_was_never_asked_stands_as_recorded() {
        for no_fill in [NoFill::Expired, NoFill::StateBound] {
            let decided = Decided {
                choice: Some(nothing(no_fill)),
                aggregators: vec![asked(&[Some(1)])],
                ..Decided::default()
            };
            assert_eq!(replay(&decided), nothing(no_fill));
        }
    }
}
