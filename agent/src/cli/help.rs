//! What `--help` teaches.

/// `returnpath-agent --help`
pub(super) const HELP: &str = "\
returnpath-agent: takes events on a Unix socket, keeps them safe, sends them on.

Usage:
  returnpath-agent run [--config FILE]
      Runs the agent. SIGTERM or SIGINT stop it in order; a second one at once.
  returnpath-agent emit [--socket PATH] [JSON...]
  returnpath-agent emit [--socket PATH] --kind KIND [--FIELD VALUE...]
      Hands in events and prints the answers; without JSON, the lines of
      standard input. 'emit --help' has examples.
  returnpath-agent decisions [--follow] [--json] [--socket PATH]
      Shows the ad decisions that are open now; with --follow also each further
      one as it comes, until stopped. With --json, as players get them.
  returnpath-agent status [--json] [--socket PATH]
      Asks the running agent for link, queue, counters and memory.
  returnpath-agent check-config [--config FILE]
      Says what is wrong with a configuration, without starting anything.
  returnpath-agent completions bash|zsh|fish
      Prints a completion script for the shell.

Options:
  -c, --config FILE   the configuration [/etc/returnpath/agent.toml]; every key
                      is documented in returnpath-agent.example.toml
  -s, --socket PATH   the agent's socket [as configured]
  -h, --help          this page
  -V, --version       the version

Exit codes:
   0  success
   1  emit: an event was refused; decisions: following was refused
  64  wrong command line
  69  no agent answers on the socket
  70  a part of the agent ended unasked
  73  the socket or the queue directory cannot be made
  75  busy, or another agent is running: try again later
  78  the configuration or a file that it names is wrong
";

/// `returnpath-agent emit --help`
pub(super) const EMIT: &str = r#"returnpath-agent emit: hands events to the running agent from a shell.

An event as JSON (the proto3 mapping of returnpath.v1.Event):
  returnpath-agent emit '{"tune":{"channel":{"serviceId":4164},"source":"SOURCE_LIVE"}}'

The same by options. Fields are written with dashes, enums without prefix:
  returnpath-agent emit --kind tune --service-id 4164 --source live
  returnpath-agent emit --kind power --state standby
  returnpath-agent emit --kind ad-event --ad-kind start --decision-id d-17
  returnpath-agent emit --kind consent --client-id c1 --version 2026-01 --measurement opted-in
  returnpath-agent emit --kind custom --name app.launch --attribute app=player

Many, one on each line of standard input:
  returnpath-agent emit < events.jsonl

Each answer is printed as a line of JSON: "accepted" (may die with the power),
"durable" (proof: survives it), "busy" (exit code 75) or "refused" (exit code 1)
with the field that is wrong and what was expected.
"#;
