//! What is known of a box, event by event.

use returnpath_refinery::{
    ACTIVITY_REFRESH_MS, DWELL_FLOOR_MS, IMPRESSIONS_MAX, SEEN_REFRESH_MS, UPTIME_AHEAD_MAX_MS,
};
use returnpath_shared::{
    BatchId, Lane,
    wire::{self, Source, ad_event, consent, display, event, power},
};

use crate::running::{
    BOOT, Batch, NOW_UNIX_MS, Running, SENT_UPTIME_MS, epoch, id, profile, snapshot,
};

/// A channel, by its service id.
fn channel(service_id: u32) -> wire::Channel {
    wire::Channel {
        network_id: 9_018,
        service_id,
        ..wire::Channel::default()
    }
}

fn at(uptime_ms: u64, kind: event::Kind) -> wire::Event {
    wire::Event {
        uptime_ms,
        kind: Some(kind),
        ..wire::Event::default()
    }
}

fn tune(uptime_ms: u64, service_id: u32) -> wire::Event {
    let tune = wire::Tune {
        channel: Some(channel(service_id)),
        source: Source::Live as i32,
        ..wire::Tune::default()
    };
    at(uptime_ms, event::Kind::Tune(tune))
}

/// Content without a channel.
fn film(uptime_ms: u64, content_id: &str) -> wire::Event {
    let tune = wire::Tune {
        source: Source::OnDemand as i32,
        content_id: content_id.into(),
        ..wire::Tune::default()
    };
    at(uptime_ms, event::Kind::Tune(tune))
}

fn beat(uptime_ms: u64, service_id: u32) -> wire::Event {
    let beat = wire::ViewingHeartbeat {
        channel: Some(channel(service_id)),
        source: Source::Live as i32,
        ..wire::ViewingHeartbeat::default()
    };
    at(uptime_ms, event::Kind::ViewingHeartbeat(beat))
}

fn powers(uptime_ms: u64, state: power::State) -> wire::Event {
    let power = wire::Power {
        state: state as i32,
        ..wire::Power::default()
    };
    at(uptime_ms, event::Kind::Power(power))
}

fn shows(uptime_ms: u64, state: display::State) -> wire::Event {
    let display = wire::Display {
        state: state as i32,
        ..wire::Display::default()
    };
    at(uptime_ms, event::Kind::Display(display))
}

fn active(uptime_ms: u64) -> wire::Event {
    let activity = wire::UserActivity { inputs: 1 };
    at(uptime_ms, event::Kind::UserActivity(activity))
}

fn allows(uptime_ms: u64, client_id: &str, choice: consent::Choice) -> wire::Event {
    let consent = wire::Consent {
        measurement: consent::Choice::OptedIn as i32,
        personalised_ads: choice as i32,
        version: "1".into(),
    };
    wire::Event {
        client_id: client_id.into(),
        ..at(uptime_ms, event::Kind::Consent(consent))
    }
}

fn boots(uptime_ms: u64, firmware: &str) -> wire::Event {
    let boot = wire::Boot {
        model: "tv-1".into(),
        firmware: firmware.into(),
        agent_version: "1.2".into(),
        ..wire::Boot::default()
    };
    at(uptime_ms, event::Kind::Boot(boot))
}

fn ad(uptime_ms: u64, kind: ad_event::Kind, decision_id: &str) -> wire::Event {
    let ad = wire::AdEvent {
        kind: kind as i32,
        decision_id: decision_id.into(),
        creative_id: "c".into(),
        channel: Some(channel(1)),
        error_code: 400,
        ..wire::AdEvent::default()
    };
    at(uptime_ms, event::Kind::AdEvent(ad))
}

fn asks(uptime_ms: u64) -> wire::Event {
    let ad = wire::AdOpportunity {
        break_id: "b".into(),
        start_uptime_ms: uptime_ms + 4_000,
        duration_ms: 30_000,
        ..wire::AdOpportunity::default()
    };
    at(uptime_ms, event::Kind::AdOpportunity(ad))
}

/// One batch of each boot and list of events, in order, a run for each boot.
fn after(batches: &[(u64, &[wire::Event])]) -> wire::DeviceProfile {
    let mut running = Running::new();
    let (mut start, mut sequence, mut ordinal, mut last_boot_id) = (0, 0, 1, 0);
    for (boot_id, events) in batches {
        if *boot_id != last_boot_id {
            (start, sequence, ordinal, last_boot_id) = (start + 1, 0, 1, *boot_id);
        }
        sequence += 1;
        let batch = Batch {
            boot_id: *boot_id,
            ..Batch::of(id(1, start, sequence))
                .carries(events.to_vec())
                .first_ordinal(ordinal)
                .envelope(|envelope| envelope.boot_id = *boot_id)
        };
        let out = running.refine(&batch);
        assert_eq!(out.refined.len(), events.len(), "{:?}", out.rejected);
        ordinal += events.len() as u64;
    }
    running.commit();
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
    profile(&running.partition, "box-1")
}

/// What is viewed, and the channels viewed before, by their service ids.
fn screen(profile: &wire::DeviceProfile) -> (Option<u32>, Vec<u32>) {
    let service_id = |channel: &Option<wire::Channel>| channel.as_ref().unwrap().service_id;
    let viewing = profile.viewing.as_ref();
    let before = profile.viewed_before.iter();
    (
        viewing.map(|viewing| service_id(&viewing.channel)),
        before.map(|viewed| service_id(&viewed.channel)).collect(),
    )
}

#[test]
fn channels_count_as_viewed_from_the_dwell_floor_on() {
    const LONG: u64 = DWELL_FLOOR_MS;
    const SHORT: u64 = DWELL_FLOOR_MS - 1;
    let standby = |uptime_ms| powers(uptime_ms, power::State::Standby);
    for (what, events, viewing, before) in [
        ("nothing before", vec![tune(5, 1)], Some(1), vec![]),
        (
            "just long enough",
            vec![tune(5, 1), tune(5 + LONG, 2)],
            Some(2),
            vec![1],
        ),
        (
            "just too short",
            vec![tune(5, 1), tune(5 + SHORT, 2)],
            Some(2),
            vec![],
        ),
        (
            "surfing on the way",
            vec![
                tune(0, 1),
                tune(LONG, 2),
                tune(LONG + 1_000, 3),
                tune(LONG + 2_000, 4),
            ],
            Some(4),
            vec![1],
        ),
        (
            "and back, so the last one is that before",
            vec![
                tune(0, 9),
                tune(LONG, 1),
                tune(2 * LONG, 2),
                tune(2 * LONG + SHORT, 1),
            ],
            Some(1),
            vec![1, 9],
        ),
        (
            "to and fro, each long",
            vec![
                tune(0, 1),
                tune(LONG, 2),
                tune(2 * LONG, 1),
                tune(3 * LONG, 2),
            ],
            Some(2),
            vec![1, 2],
        ),
        (
            "more than are kept",
            vec![
                tune(0, 1),
                tune(LONG, 2),
                tune(2 * LONG, 3),
                tune(3 * LONG, 4),
            ],
            Some(4),
            vec![3, 2],
        ),
        (
            "heartbeats of the same channel",
            vec![tune(0, 1), beat(SHORT, 1), tune(LONG, 2)],
            Some(2),
            vec![1],
        ),
        (
            "a tune that was missed",
            vec![tune(0, 1), beat(LONG, 2)],
            Some(2),
            vec![1],
        ),
        (
            "standby, and nothing is viewed",
            vec![tune(0, 1), standby(LONG)],
            None,
            vec![1],
        ),
        (
            "standby soon after",
            vec![tune(0, 1), standby(SHORT)],
            None,
            vec![],
        ),
        (
            "standby counts once",
            vec![
                tune(0, 1),
                standby(LONG),
                standby(9 * LONG),
                tune(10 * LONG, 2),
            ],
            Some(2),
            vec![1],
        ),
        (
            "a heartbeat after standby",
            vec![tune(0, 1), standby(LONG), beat(2 * LONG, 1)],
            Some(1),
            vec![1],
        ),
        (
            "uptimes that run backwards",
            vec![tune(9 * LONG, 1), tune(0, 2)],
            Some(2),
            vec![],
        ),
    ] {
        let known = after(&[(BOOT, &events)]);
        assert_eq!(screen(&known), (viewing, before), "{what}");
    }
}

#[test]
fn what_is_viewed_is_told_with_its_beginning() {
    let known = after(&[(BOOT, &[tune(7_000, 1), beat(9_000, 1), beat(60_000, 1)])]);
    let viewing = known.viewing.unwrap();
    assert_eq!(viewing.channel, Some(channel(1)));
    assert_eq!(viewing.source, Source::Live as i32);
    assert_eq!(viewing.since_boot_id, BOOT);
    assert_eq!(viewing.since_uptime_ms, 7_000);
    let booted = NOW_UNIX_MS - SENT_UPTIME_MS as i64;
    assert_eq!(viewing.since_unix_ms, booted + 7_000);

    let known = after(&[(BOOT, &[tune(7_000, 1), tune(70_000, 2)])]);
    let viewed = &known.viewed_before[0];
    assert_eq!(viewed.dwell_ms, 63_000);
    assert_eq!(viewed.left_unix_ms, booted + 70_000);
}

#[test]
fn a_tune_to_the_channel_that_is_viewed_goes_on_with_it() {
    let mut behind_live = tune(50_000, 1);
    if let Some(event::Kind::Tune(tune)) = &mut behind_live.kind {
        tune.source = Source::Timeshift as i32;
    }
    let known = after(&[(BOOT, &[tune(7_000, 1), behind_live])]);
    assert_eq!(screen(&known), (Some(1), vec![]));
    let viewing = known.viewing.unwrap();
    assert_eq!(viewing.source, Source::Timeshift as i32);
    assert_eq!(viewing.since_uptime_ms, 7_000);
}

#[test]
fn a_channel_whose_transport_stream_is_not_known_everywhere_is_one_channel() {
    let mut known_stream = beat(20_000, 1);
    if let Some(event::Kind::ViewingHeartbeat(beat)) = &mut known_stream.kind
        && let Some(channel) = &mut beat.channel
    {
        channel.transport_stream_id = 4;
    }
    let known = after(&[(BOOT, &[tune(0, 1), known_stream])]);
    assert_eq!(screen(&known), (Some(1), vec![]));
    assert_eq!(known.viewing.unwrap().since_uptime_ms, 0);
}

#[test]
fn content_without_a_channel_is_viewed_and_never_the_last_channel() {
    let known = after(&[(BOOT, &[tune(0, 1), film(20_000, "a")])]);
    let viewing = known.viewing.unwrap();
    assert_eq!((viewing.channel, &*viewing.content_id), (None, "a"));
    assert_eq!(known.viewed_before.len(), 1);
    let events = [
        tune(0, 1),
        film(20_000, "a"),
        film(90_000, "b"),
        tune(200_000, 2),
    ];
    assert_eq!(screen(&after(&[(BOOT, &events)])), (Some(2), vec![1]));
}

#[test]
fn a_reboot_ends_what_was_viewed_and_counts_no_dwell() {
    let first = [tune(1_000, 1)];
    let known = after(&[(BOOT, &first), (88, &[boots(500, "f")])]);
    assert_eq!(screen(&known), (None, vec![]));
    // The uptime of another boot measures nothing.
    let known = after(&[(BOOT, &first), (88, &[tune(900_000, 2)])]);
    assert_eq!(screen(&known), (Some(2), vec![]));
    // The agent alone began anew.
    let known = after(&[(BOOT, &[tune(1_000, 1), boots(30_000, "f")])]);
    assert_eq!(screen(&known), (Some(1), vec![]));
    let told_before_the_agent = [tune(1_000, 2), boots(2_000, "f")];
    let known = after(&[(BOOT, &first), (88, &told_before_the_agent)]);
    assert_eq!(screen(&known), (Some(2), vec![]));
}

#[test]
fn the_box_says_what_it_is() {
    let known = after(&[(BOOT, &[boots(1, "f1")]), (88, &[boots(2, "f2")])]);
    assert_eq!(
        (&*known.model, &*known.firmware, &*known.agent_version),
        ("tv-1", "f2", "1.2")
    );
    assert_eq!(known.boot_id, 88);
}

#[test]
fn power_display_and_activity_are_kept() {
    let activity_ms = ACTIVITY_REFRESH_MS;
    let known = after(&[(
        BOOT,
        &[
            powers(1, power::State::Standby),
            powers(2, power::State::On),
            shows(3, display::State::Inactive),
            active(4),
            active(3 + activity_ms),
        ],
    )]);
    assert_eq!(known.power(), power::State::On);
    assert_eq!(known.display(), display::State::Inactive);
    let booted = NOW_UNIX_MS - SENT_UPTIME_MS as i64;
    assert_eq!(known.last_activity_unix_ms, booted + 4, "too soon after");
    let known = after(&[(BOOT, &[active(4), active(4 + activity_ms)])]);
    let expected = booted + 4 + activity_ms as i64;
    assert_eq!(known.last_activity_unix_ms, expected);
}

#[test]
fn impressions_are_the_ads_that_began() {
    use ad_event::Kind;
    let known = after(&[(
        BOOT,
        &[
            ad(1_000, Kind::Start, "a"),
            ad(2_000, Kind::Complete, "a"),
            ad(3_000, Kind::Error, "failed"),
            ad(4_000, Kind::DecisionAcknowledged, "bound"),
            ad(6_000, Kind::Start, "c"),
            ad(5_000, Kind::Start, "b"),
        ],
    )]);
    let recent = known.recent_impressions;
    let ids: Vec<_> = recent.iter().map(|shown| &*shown.decision_id).collect();
    assert_eq!(ids, ["c", "b", "a"]);
    let booted = NOW_UNIX_MS - SENT_UPTIME_MS as i64;
    assert_eq!(recent[0].shown_unix_ms, booted + 6_000);
    assert_eq!(recent[0].creative_id, "c");
    assert_eq!(recent[0].channel, Some(channel(1)));
    assert_eq!(recent[0].moment.unwrap().ordinal, 5);

    let many = (0..40).map(|number| ad(1_000 + number, Kind::Start, &number.to_string()));
    let known = after(&[(BOOT, &many.collect::<Vec<_>>())]);
    assert_eq!(known.recent_impressions.len(), IMPRESSIONS_MAX);
    assert_eq!(known.recent_impressions[0].decision_id, "39");
}

/// Refines batches of one event each, in the order given; each is named by its
/// id, which is its order on the box.
fn delivered(batches: &[(BatchId, Lane, wire::Event)]) -> wire::DeviceProfile {
    let mut running = Running::new();
    for (id, lane, event) in batches {
        let batch = Batch::of(*id).carries([event.clone()]).lane(*lane);
        running.refine(&batch);
        running.pass_ms(1_000);
        running.commit();
        running.partition = running.restored();
    }
    assert_eq!(running.partition.waiting(), 0);
    profile(&running.partition, "box-1")
}

#[test]
fn what_comes_late_moves_nothing_back() {
    use consent::Choice::{OptedIn, OptedOut};
    let live = Lane::Live;
    let backlog = Lane::Backlog;
    let known = delivered(&[
        (id(1, 2, 1), live, tune(1_000, 2)),
        (id(1, 1, 1), backlog, tune(90_000, 1)),
        (id(1, 1, 2), live, powers(99_000, power::State::Off)),
    ]);
    assert_eq!(screen(&known), (Some(2), vec![]));
    assert_eq!(known.power(), power::State::Off, "nothing later said so");

    // A heartbeat costs no profile, and counts all the same.
    let known = delivered(&[
        (id(1, 1, 1), live, tune(1_000, 1)),
        (id(1, 1, 5), live, beat(60_000, 1)),
        (id(1, 1, 3), backlog, tune(30_000, 3)),
    ]);
    assert_eq!(screen(&known), (Some(1), vec![]));

    let known = delivered(&[
        (id(1, 1, 2), live, allows(2, "b", OptedOut)),
        (id(1, 1, 1), backlog, allows(1, "a", OptedIn)),
    ]);
    assert_eq!(known.consent.unwrap().personalised_ads(), OptedOut);

    let known = delivered(&[
        (id(1, 2, 1), live, boots(1, "new")),
        (id(1, 1, 1), backlog, boots(1, "old")),
        (id(1, 2, 2), live, shows(3, display::State::Active)),
        (id(1, 1, 2), backlog, shows(3, display::State::Inactive)),
    ]);
    assert_eq!(known.firmware, "new");
    assert_eq!(known.display(), display::State::Active);
}

#[test]
fn a_tune_of_the_boot_before_does_not_come_back_on_the_screen() {
    let mut running = Running::new();
    running.refine(&Batch::of(id(1, 2, 1)).carries([boots(1, "f")]));
    let before = Batch {
        boot_id: 66,
        ..Batch::of(id(1, 1, 1)).carries([tune(1_000, 1)])
    };
    assert_eq!(running.refine(&before).refined.len(), 1);
    assert_eq!(profile(&running.partition, "box-1").viewing, None);
}

#[test]
fn a_new_queue_file_is_later_by_its_arrival_and_not_by_its_number() {
    let mut running = Running::new();
    let later_ms = NOW_UNIX_MS + 100_000;
    let tunes = |id: BatchId, service_id| Batch::of(id).carries([tune(1_000, service_id)]);
    running.refine(&tunes(id(8, 7, 1), 1));
    running.refine(&tunes(id(3, 1, 1), 2).received_unix_ms(later_ms));
    running.refine(&tunes(id(8, 7, 2), 3).received_unix_ms(later_ms + 1));
    let known = profile(&running.partition, "box-1");
    assert_eq!(screen(&known), (Some(2), vec![]));
}

#[test]
fn a_box_that_only_says_what_is_known_costs_no_profile() {
    let mut running = Running::new();
    running.refine(&Batch::new(1).carries([tune(1_000, 1), active(1_500)]));
    running.commit();
    let first = profile(&running.partition, "box-1");
    assert_eq!(first.last_seen_unix_ms, NOW_UNIX_MS);
    for (sequence, after_ms) in [(2, 5_000), (3, SEEN_REFRESH_MS - 1)] {
        let batch = Batch::new(sequence)
            .carries([beat(2_000, 1), active(3_000)])
            .received_unix_ms(NOW_UNIX_MS + after_ms);
        assert_eq!(running.refine(&batch).refined.len(), 2);
        running.commit();
        assert_eq!(profile(&running.partition, "box-1"), first);
    }
    let batch = Batch::new(4).received_unix_ms(NOW_UNIX_MS + SEEN_REFRESH_MS);
    running.refine(&batch.carries([beat(4_000, 1)]));
    let seen = profile(&running.partition, "box-1").last_seen_unix_ms;
    assert_eq!(seen, NOW_UNIX_MS + SEEN_REFRESH_MS);
}

#[test]
fn an_opportunity_takes_along_what_was_known_by_then() {
    let mut running = Running::new();
    let events = [
        tune(1_000, 1),
        tune(50_000, 2),
        asks(50_100),
        tune(50_200, 3),
    ];
    let out = running.refine(&Batch::new(1).carries(events));
    assert_eq!(out.refined.len(), 4);
    let [asked] = &out.opportunities[..] else {
        panic!("{:?}", out.opportunities)
    };
    assert_eq!(asked.refined.as_ref(), Some(&out.refined[2]));
    let known = asked.profile.as_ref().unwrap();
    assert_eq!(screen(known), (Some(2), vec![1]));
    assert_eq!(known.device_id, "box-1");
    assert_eq!(asked.sent_boot_id, BOOT);
    assert_eq!(asked.sent_uptime_ms, SENT_UPTIME_MS);
    assert_eq!(asked.settled_uptime_ms, 50_100 - UPTIME_AHEAD_MAX_MS);

    let late = Batch::new(2).first_ordinal(5).carries([asks(60_000)]);
    let late = late.lane(Lane::Backlog);
    let asked = running.refine(&late).opportunities;
    assert_eq!(asked.len(), 1, "that it is too late is not for us to say");
    assert_eq!(running.refine(&late.lane(Lane::Live)).opportunities, []);
}

/// What an opportunity in `batch` is told of what is settled, after the
/// batches before it.
fn settled(before: &[Batch], batch: &Batch) -> u64 {
    let mut running = Running::new();
    for batch in before {
        running.refine(batch);
    }
    let mut asked = running.refine(batch).opportunities;
    asked.extend(running.pass_ms(1_000).opportunities);
    assert_eq!(asked.len(), 1);
    asked[0].settled_uptime_ms
}

#[test]
fn settled_is_what_nothing_of_the_run_is_missing_before() {
    let asking = |batch: Batch| batch.carries([asks(60_000)]);
    let all = 60_000 - UPTIME_AHEAD_MAX_MS;
    let gap = asking(Batch::new(3));
    assert_eq!(settled(&[], &asking(Batch::new(1))), all);
    assert_eq!(settled(&[Batch::new(1), Batch::new(2)], &gap), all);
    assert_eq!(settled(&[Batch::new(1)], &gap), 0, "batch 2 is missing");
    // It has been released, so it may lie in the other lane.
    let released = gap.declares(epoch(1, 1), &[id(1, 1, 3)]);
    assert_eq!(settled(&[Batch::new(1)], &released), 0);
    let filled = [Batch::new(1), Batch::new(2).lane(Lane::Backlog)];
    assert_eq!(settled(&filled, &released), all);
    // Of an earlier run it needs no batch, unless the box still holds one.
    let next_run = asking(Batch::of(id(1, 2, 1)));
    assert_eq!(settled(&[Batch::new(5)], &next_run), all);
    let own = id(1, 2, 1);
    for (held, nothing_earlier) in [
        (vec![own], true),
        (vec![id(1, 1, 6)], false),
        (vec![own, id(9, 4, 1)], false),
    ] {
        let next_run = next_run.clone().declares(epoch(1, 2), &held);
        let expected = if nothing_earlier { all } else { 0 };
        assert_eq!(settled(&[Batch::new(5)], &next_run), expected, "{held:?}");
    }
    // Held over a reboot: its uptime is not that of the boot that sends.
    let held = asking(Batch::new(1)).envelope(|envelope| envelope.boot_id = 88);
    assert_eq!(settled(&[], &held), 0);
    // No event is accepted after it was sent.
    let early = asking(Batch::new(1)).envelope(|envelope| envelope.uptime_ms = 5_000);
    assert_eq!(settled(&[], &early), 5_000 - UPTIME_AHEAD_MAX_MS);
}

#[test]
fn profiles_that_are_not_ours_are_refused() {
    let good = wire::DeviceProfile {
        device_id: "box-1".into(),
        ..wire::DeviceProfile::default()
    };
    let bad_moment = wire::DeviceProfile {
        power_moved: Some(wire::EventMoment::default()),
        ..good.clone()
    };
    let bad_channel = wire::DeviceProfile {
        viewing: Some(wire::Viewing {
            channel: Some(wire::Channel {
                service_id: 1 << 16,
                ..wire::Channel::default()
            }),
            ..wire::Viewing::default()
        }),
        ..good.clone()
    };
    let bytes = |profile: &wire::DeviceProfile| prost::Message::encode_to_vec(profile);
    let mut partition = Running::new().partition;
    for (what, key, value) in [
        ("no device", &b"a b"[..], bytes(&good)),
        ("a key of the changelog", b"box-1#proof", bytes(&good)),
        ("another device", b"box-2", bytes(&good)),
        ("no profile", b"box-1", b"\xff".to_vec()),
        ("a moment of no run", b"box-1", bytes(&bad_moment)),
        ("no channel", b"box-1", bytes(&bad_channel)),
    ] {
        let restored = partition.restore_profile(key, Some(&value));
        assert!(restored.is_err(), "{what}");
    }
    assert!(
        partition
            .restore_profile(b"box-1", Some(&bytes(&good)))
            .is_ok()
    );
}
