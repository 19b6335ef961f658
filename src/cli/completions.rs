//! `completions`: what a shell needs to complete verbs and flags; made from the parser itself, so it is never out of date.

use clap::{Args, CommandFactory, ValueEnum};
use serde_json::json;

use super::session::Session;
use super::{Cli, DONE, Verdict};

/// Completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm completions bash > ~/.local/share/bash-completion/completions/p2p-comm
         p2p-comm completions zsh >> ~/.zshrc
         p2p-comm completions fish > ~/.config/fish/completions/p2p-comm.fish")]
pub(super) struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(super) fn run(self, session: &Session) -> Verdict {
        let script = match self.shell {
            Shell::Bash => bash(),
            // Zsh understands bash's completions.
            Shell::Zsh => format!(
                "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{}",
                bash()
            ),
            Shell::Fish => fish(),
        };
        let name = self.shell.to_possible_value().map(|value| value.get_name().to_owned());
        session.printer.data(&json!({"shell": name, "script": script}), || script)?;
        Ok(DONE)
    }
}

/// What may follow a path of verbs: further verbs, values of the first argument, flags.
struct Place {
    path: Vec<String>,
    verbs: Vec<String>,
    flags: Vec<String>,
}

fn places() -> Vec<Place> {
    let mut cli = Cli::command();
    cli.build();
    let mut places = Vec::new();
    collect(&cli, &mut Vec::new(), &mut places);
    places
}

fn collect(command: &clap::Command, path: &mut Vec<String>, places: &mut Vec<Place>) {
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help").collect();
    let choices = command.get_positionals().flat_map(|argument| argument.get_possible_values());
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set()).filter_map(clap::Arg::get_long);
    places.push(Place {
        path: path.clone(),
        verbs: subcommands
            .iter()
            .map(|verb| verb.get_name().to_owned())
            .chain(choices.map(|choice| choice.get_name().to_owned()))
            .collect(),
        flags: flags.map(|name| format!("--{name}")).collect(),
    });
    for verb in subcommands {
        path.push(verb.get_name().to_owned());
        collect(verb, path, places);
        path.pop();
    }
}

fn bash() -> String {
    let mut cases = String::new();
    for place in places() {
        let words = [place.verbs, place.flags].concat().join(" ");
        cases.push_str(&format!("        \"{}\") words=\"{words}\" ;;\n", place.path.join(" ")));
    }
    format!(
        "_p2p_comm() {{
    local word path=\"\" words=\"\" current=\"${{COMP_WORDS[COMP_CWORD]}}\"
    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
        case \"$word\" in -*) ;; *) path=\"${{path:+$path }}$word\" ;; esac
    done
    case \"$path\" in
{cases}        *) return ;;
    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))
}}
complete -o default -F _p2p_comm p2p-comm
"
    )
}

fn fish() -> String {
    let mut script = String::from("complete -c p2p-comm -f\n");
    for place in places() {
        let condition = match place.path.as_slice() {
            [] => "__fish_use_subcommand".to_owned(),
            path => path
                .iter()
                .map(|verb| format!("__fish_seen_subcommand_from {verb}"))
                .collect::<Vec<_>>()
                .join("; and "),
        };
        for verb in &place.verbs {
            script.push_str(&format!("complete -c p2p-comm -n '{condition}' -a {verb}\n"));
        }
        for flag in &place.flags {
            script.push_str(&format!("complete -c p2p-comm -n '{condition}' -l {}\n", &flag[2..]));
        }
    }
    script
}
