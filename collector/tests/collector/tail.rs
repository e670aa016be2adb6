use clap::Parser;
use prost::Message as _;
use returnpath_collector::tail::{self, print};
use returnpath_shared::wire::{Rejected, Tune, event::Kind};
use serde_json::Value;

use crate::cluster::{Cluster, refined};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: tail::Args,
}

fn printed(cluster: &Cluster, line: &str) -> Vec<Value> {
    let args = Line::parse_from(format!("tail {line}").split(' ')).args;
    let mut out = Vec::new();
    print(&args, cluster.settled(), &mut out).unwrap();
    out.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn tune(ordinal: u64, device: &str, cluster: &Cluster) {
    let record = refined(device, ordinal, Kind::Tune(Tune::default()));
    cluster.refined("rp.viewing", &record);
}

#[test]
fn records_are_printed_as_json_lines_and_broken_ones_skipped() {
    let cluster = Cluster::start();
    tune(1, "box-1", &cluster);
    cluster.write("rp.viewing", "box-1", &[0xff; 7]);
    tune(2, "box-1", &cluster);
    let lines = printed(&cluster, "viewing --from-beginning --no-follow");
    let ordinals: Vec<&str> = lines
        .iter()
        .map(|line| line["ordinal"].as_str().unwrap())
        .collect();
    assert_eq!(ordinals, ["1", "2"]);
    assert!(lines[0]["event"]["tune"].is_object());
}

#[test]
fn one_box_and_a_count_can_be_chosen() {
    let cluster = Cluster::start();
    for number in 0..9 {
        for ordinal in 1..=2 {
            tune(ordinal, &format!("box-{number}"), &cluster);
        }
    }
    let of_box = printed(
        &cluster,
        "viewing --device box-4 --from-beginning --no-follow",
    );
    assert_eq!(of_box.len(), 2);
    assert!(of_box.iter().all(|line| line["deviceId"] == "box-4"));
    let counted = printed(&cluster, "viewing --from-beginning --count 5");
    assert_eq!(counted.len(), 5);
    assert!(printed(&cluster, "viewing --no-follow").is_empty());
}

#[test]
fn rejected_records_are_printed_as_such() {
    let cluster = Cluster::start();
    let rejected = Rejected {
        detail: "event.tune: expected a channel".into(),
        key: "box-1".into(),
        ..Rejected::default()
    };
    cluster.write("rp.rejected", "box-1", &rejected.encode_to_vec());
    let lines = printed(&cluster, "rejected --from-beginning --no-follow");
    assert_eq!(lines[0]["detail"], "event.tune: expected a channel");
}
