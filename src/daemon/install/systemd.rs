//! A unit of systemd's user manager (systemd.unit(5), systemd.service(5), systemd.exec(5)).

use std::path::PathBuf;

use super::{MARK, Wanted, user_folder};
use crate::api::Error;

/// `$XDG_CONFIG_HOME/systemd/user`, where the user's own units are (systemd.unit(5), "Unit file load path").
pub(super) fn file(service: &str) -> Result<PathBuf, Error> {
    let configured =
        std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = match configured {
        Some(folder) => folder,
        None => user_folder()?.join(".config"),
    };
    Ok(folder.join("systemd/user").join(format!("{service}.service")))
}

/// A daemon that ends by itself was told to, and stays so; one that failed is started again, ten times in five minutes at
/// most. The restrictions are those that a user's manager can set without a namespace; they bind hooks, too.
pub(super) fn text(wanted: &Wanted<'_>) -> String {
    let start: Vec<_> = wanted.words.iter().map(|word| quoted(word)).collect();
    let path = wanted
        .path
        .as_ref()
        .map_or_else(String::new, |path| format!("Environment={}\n", quoted(&format!("PATH={path}"))));
    format!(
        "# {MARK}\n\
         [Unit]\n\
         Description=p2p-comm, the agent of {home}\n\
         StartLimitIntervalSec=300\n\
         StartLimitBurst=10\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={start}\n\
         {path}\
         Restart=on-failure\n\
         RestartSec=2\n\
         KillMode=mixed\n\
         TimeoutStopSec=15\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
         SystemCallArchitectures=native\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        home = wanted.home.replace('%', "%%"),
        start = start.join(" "),
    )
}

/// One word between quotation marks: without escapes, specifiers and variables of systemd's (systemd.service(5),
/// "Command lines").
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' | '$' => quoted.extend([character, character]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_quotes_what_systemd_would_read_otherwise() {
        let words = ["/a b/p\"y\\", "-m", "p2p_comm", "--home", "/h $x %h"].map(String::from).to_vec();
        let text = text(&Wanted { words, path: Some("/bin:/x y".into()), home: "/h $x %h" });
        assert!(text.starts_with("# written by `p2p-comm daemon install`"));
        assert!(
            text.contains("\nExecStart=\"/a b/p\\\"y\\\\\" \"-m\" \"p2p_comm\" \"--home\" \"/h $$x %%h\"\n"),
            "{text}"
        );
        assert!(text.contains("\nEnvironment=\"PATH=/bin:/x y\"\n"));
        assert!(text.contains("\nDescription=p2p-comm, the agent of /h $x %%h\n"));
    }
}
