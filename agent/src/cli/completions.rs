//! Completion scripts, as they are printed.

/// A shell that has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            _ => None,
        }
    }
}

pub(super) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    }
}

const BASH: &str = r#"_returnpath_agent() {
    local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    case "$previous" in
        --config|-c|--socket|-s) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --kind) COMPREPLY=($(compgen -W "tune viewing-heartbeat trick-play power display user-activity ad-opportunity ad-event consent custom health" -- "$word")); return ;;
        completions) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")); return ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "run emit decisions status check-config completions --help --version" -- "$word"))
        return
    fi
    case "${COMP_WORDS[1]}" in
        run|check-config) COMPREPLY=($(compgen -W "--config --help" -- "$word")) ;;
        decisions) COMPREPLY=($(compgen -W "--follow --json --socket --config --help" -- "$word")) ;;
        status) COMPREPLY=($(compgen -W "--json --socket --config --help" -- "$word")) ;;
        emit) COMPREPLY=($(compgen -W "--kind --socket --config --help" -- "$word")) ;;
    esac
}
complete -F _returnpath_agent returnpath-agent
"#;

const ZSH: &str = r#"#compdef returnpath-agent
_returnpath_agent() {
    local -a options
    if (( CURRENT == 2 )); then
        compadd run emit decisions status check-config completions --help --version
        return
    fi
    case "${words[CURRENT-1]}" in
        --config|-c|--socket|-s) _files; return ;;
        --kind) compadd tune viewing-heartbeat trick-play power display user-activity ad-opportunity ad-event consent custom health; return ;;
    esac
    case "${words[2]}" in
        run|check-config) compadd -- --config --help ;;
        decisions) compadd -- --follow --json --socket --config --help ;;
        status) compadd -- --json --socket --config --help ;;
        emit) compadd -- --kind --socket --config --help ;;
        completions) compadd bash zsh fish ;;
    esac
}
compdef _returnpath_agent returnpath-agent
"#;

const FISH: &str = r"set -l commands run emit decisions status check-config completions
complete -c returnpath-agent -f
complete -c returnpath-agent -n __fish_use_subcommand -a run -d 'Run the agent'
complete -c returnpath-agent -n __fish_use_subcommand -a emit -d 'Hand in events'
complete -c returnpath-agent -n __fish_use_subcommand -a decisions -d 'Show ad decisions'
complete -c returnpath-agent -n __fish_use_subcommand -a status -d 'Ask the running agent'
complete -c returnpath-agent -n __fish_use_subcommand -a check-config -d 'Check a configuration'
complete -c returnpath-agent -n __fish_use_subcommand -a completions -d 'Print a completion script'
complete -c returnpath-agent -n '__fish_seen_subcommand_from run emit decisions status check-config' -s c -l config -r -F
complete -c returnpath-agent -n '__fish_seen_subcommand_from emit decisions status' -s s -l socket -r -F
complete -c returnpath-agent -n '__fish_seen_subcommand_from decisions status' -l json
complete -c returnpath-agent -n '__fish_seen_subcommand_from decisions' -s f -l follow
complete -c returnpath-agent -n '__fish_seen_subcommand_from emit' -l kind -x -a 'tune viewing-heartbeat trick-play power display user-activity ad-opportunity ad-event consent custom health'
complete -c returnpath-agent -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'
complete -c returnpath-agent -s h -l help
complete -c returnpath-agent -s V -l version
";
