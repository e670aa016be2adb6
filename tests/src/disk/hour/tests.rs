use super::*;
use crate::place;

const MIB: u64 = 1 << 20;

/// Large enough that the file system does not fill.
const DISK_BYTES: u64 = 24 << 20;

async fn cost(story: Story) -> Cost {
    let directory = place::fresh_directory("flash-hour").unwrap();
    let image = directory.join("image");
    let disk = LoopDisk::mount(&image, DISK_BYTES, &directory.join("flash")).unwrap();
    let cost = live(&disk, story).await.unwrap();
    drop(disk);
    std::fs::remove_file(image).unwrap();
    cost
}

#[tokio::test]
async fn an_hour_of_ordinary_events_online_writes_next_to_nothing() {
    let cost = cost(Story::OrdinaryOnline).await;
    assert!(cost.payload_bytes > 700_000, "{cost:?}");
    assert!(cost.device_bytes <= MIB / 5, "{cost:?}");
}

#[tokio::test]
async fn an_hour_of_ordinary_events_offline_writes_twice_their_payload() {
    let cost = cost(Story::OrdinaryOffline).await;
    assert!(cost.payload_bytes > 700_000, "{cost:?}");
    assert!(cost.device_bytes <= MIB * 3 / 2, "{cost:?}");
    // The budget is kept by what commits are thought to cost.
    assert!(cost.charged_bytes >= cost.device_bytes, "{cost:?}");
    assert!(cost.charged_bytes <= cost.device_bytes * 2, "{cost:?}");
}

#[tokio::test]
async fn proof_that_is_receipted_in_time_writes_nothing() {
    let cost = cost(Story::ProofOnline).await;
    assert_eq!((cost.commits, cost.device_bytes), (0, 0), "{cost:?}");
}

#[tokio::test]
async fn a_commit_of_proof_writes_12_kib_at_most() {
    let cost = cost(Story::ProofOffline).await;
    assert_eq!(cost.commits, 120, "{cost:?}");
    let each = cost.device_bytes / cost.commits;
    assert!(each <= 12 * 1_024, "{each} bytes a commit; {cost:?}");
    assert!(cost.charged_bytes >= cost.device_bytes * 4 / 5, "{cost:?}");
    assert!(cost.charged_bytes <= cost.device_bytes * 2, "{cost:?}");
}
