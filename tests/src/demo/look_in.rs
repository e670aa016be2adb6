//! How to look into a running demo from another terminal.

use std::{env, path::Path};

use crate::place;

/// Commands for people who stand where this process does: a title, and a
/// command a line.
pub(super) fn commands(directory: &Path, agents: u32) -> anyhow::Result<Vec<String>> {
    let here = env::current_dir()?;
    let collector = shown(&place::binary("returnpath-collector")?, &here);
    let config = shown(&directory.join("collector-a.toml"), &here);
    let mut lines = vec![
        "look in from another terminal, while it runs:".to_owned(),
        format!("  {collector} --config {config} decisions tail"),
        format!("  {collector} --config {config} decisions show ID"),
    ];
    if agents > 0 {
        let agent = shown(&place::agent()?, &here);
        let socket = shown(&directory.join("boxes/agent-1/agent.sock"), &here);
        lines.push(format!("  {agent} decisions --follow --socket {socket}"));
    }
    Ok(lines)
}

/// As short as it works from `here`.
fn shown(path: &Path, here: &Path) -> String {
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_from_where_one_stands() {
        let path = Path::new("/project/target/tool");
        assert_eq!(shown(path, Path::new("/project")), "target/tool");
        assert_eq!(shown(path, Path::new("/elsewhere")), "/project/target/tool");
    }
}
