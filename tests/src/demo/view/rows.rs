//! A row of counts: what flows, where there is no terminal to draw on.

use super::Frame;

/// What stands in the columns, and their widths.
const COLUMNS: [(&str, usize); 11] = [
    ("time", 6),
    ("stage", 9),
    ("events", 8),
    ("a second", 9),
    ("on the way", 11),
    ("breaks", 7),
    ("slots", 6),
    ("ads", 6),
    ("on box", 7),
    ("shown", 6),
    ("completed", 10),
];

/// Their titles.
pub(super) fn head() -> String {
    line(COLUMNS.map(|(title, _)| title.to_owned()))
}

/// How it stands. On the way are events that were answered and have not been
/// read back from Kafka yet.
pub(super) fn row(frame: &Frame) -> String {
    let (seen, funnel) = (&frame.seen, &frame.seen.funnel);
    let counts = [
        seen.answered,
        frame.answered_per_second,
        seen.outstanding,
        funnel.opportunities,
        funnel.decided,
        funnel.filled,
        funnel.acknowledged,
        funnel.shown,
        funnel.completed,
    ];
    let mut cells = [const { String::new() }; COLUMNS.len()];
    cells[0] = format!("{} s", frame.elapsed.as_secs());
    cells[1] = frame.stage.to_owned();
    for (cell, count) in cells.iter_mut().skip(2).zip(counts) {
        *cell = count.to_string();
    }
    line(cells)
}

fn line(cells: [String; COLUMNS.len()]) -> String {
    let cells = cells.iter().zip(COLUMNS);
    cells
        .map(|(cell, (_, width))| format!("{cell:>width$}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_stands_below_its_title() {
        let mut frame = Frame {
            stage: "feeding",
            answered_per_second: 72,
            ..Frame::default()
        };
        frame.seen.answered = 944;
        frame.seen.funnel.completed = 7;
        let (head, row) = (head(), row(&frame));
        assert_eq!(head.len(), row.len());
        let below = |title: &str| {
            let end = head.find(title).unwrap() + title.len();
            row[..end].split_whitespace().last().unwrap().to_owned()
        };
        assert_eq!(below("stage"), "feeding");
        assert_eq!(below("events"), "944");
        assert_eq!(below("a second"), "72");
        assert_eq!(below("completed"), "7");
    }
}
