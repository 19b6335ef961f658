//! Whether what is to run when something happens could run.

use std::env;

use super::Check;
use crate::cli::on::flaw;
use crate::home::hooks;
use crate::home::settings::WakeWay;
use crate::home::{Home, Settings, read_secret};
use crate::wake::{TOKEN_VARIABLE, find_program};

pub(super) fn hooks(home: &Home) -> Vec<Check> {
    let hooks = match hooks::read(home) {
        Ok(hooks) if hooks.is_empty() => return Vec::new(),
        Ok(hooks) => hooks,
        Err(error) => return vec![Check::stopped_by("hooks", &error)],
    };
    let ill: Vec<_> = hooks
        .iter()
        .filter_map(|hook| {
            let why = flaw(hook)?;
            let program = hook.run.first().map_or("", String::as_str);
            let detail = format!("{program} cannot be run: {why}");
            Some(Check::ill("hooks", detail, format!("p2p-comm on remove {}", hook.id)))
        })
        .collect();
    if ill.is_empty() {
        vec![Check::well("hooks", format!("{} of them, each can be run", hooks.len()))]
    } else {
        ill
    }
}

pub(super) fn wakes(settings: &Settings) -> Vec<Check> {
    settings.wake.iter().map(|way| wake(way, settings)).collect()
}

/// Nobody is woken for it: what can be seen is seen.
fn wake(way: &WakeWay, settings: &Settings) -> Check {
    const NAME: &str = "wake";
    match (way, &settings.wake_token_file) {
        (WakeWay::Program(program), _) => match find_program(program) {
            Ok(path) => Check::well(NAME, format!("{way}: {}", path.display())),
            Err(error) => Check::ill(
                NAME,
                format!("{way}: {error}"),
                "p2p-comm config set wake openclaw:/path/of/openclaw",
            ),
        },
        (_, Some(file)) => match read_secret(file) {
            Ok(_) => Check::well(NAME, format!("{way}, with the token in {}", file.display())),
            Err(error) => Check::ill(NAME, format!("{way}: {}", error.message), error.hint),
        },
        (_, None) if env::var_os(TOKEN_VARIABLE).is_some_and(|token| !token.is_empty()) => Check::well(
            NAME,
            format!("{way}, with the token of {TOKEN_VARIABLE} if the daemon was started with it"),
        ),
        (_, None) => Check::ill(
            NAME,
            format!("{way}: there is no token for it"),
            "p2p-comm config set wake_token_file FILE",
        ),
    }
}
