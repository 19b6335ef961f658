//! `skill`: the page that makes a language model able to use this program, in the folder where its host looks for skills.
//!
//! The format is that of AgentSkills, as OpenClaw (`docs/tools/skills.md` of `openclaw/openclaw`) and Claude Code
//! (code.claude.com/docs/en/skills) read it: a folder with a `SKILL.md` that begins with `name` and `description`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::session::Session;
use super::{DONE, Verdict, show};
use crate::api::{Error, ErrorKind};
use crate::home::{not_written, write_atomically};
use crate::proto::text::shell_word;

/// The name of the skill and of its folder, as that of the deployed agents.
const NAME: &str = "p2p-comm";
/// What is written: the page, and the program by whose name deployed prompts call us.
const FILES: [(&str, &str); 2] =
    [("SKILL.md", include_str!("../../skill/SKILL.md")), ("p2p.js", include_str!("../../skill/p2p.js"))];
/// In which the way to this program is written down.
const LAUNCHER_LINE: &str = "const INSTALLED = null\n";
/// What was written here last: by this a file that somebody has changed is told from one of an earlier version.
const MANIFEST: &str = ".p2p-comm-skill.json";
/// Where agents deployed with `openclaw-p2p` have their skill, under the user's folder.
const DEPLOYED: &str = "clawd/skills";

/// The page that makes a language model able to use this program
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm skill install --for openclaw     into ~/.openclaw/skills/p2p-comm
         p2p-comm skill install --for claude       into ~/.claude/skills/p2p-comm
         p2p-comm skill install --dir DIR          into DIR/p2p-comm

Beside SKILL.md lies p2p.js, which runs this program: for prompts that still call the one of openclaw-p2p.")]
pub(super) struct Skill {
    #[command(subcommand)]
    verb: SkillVerb,
}

#[derive(Debug, Subcommand)]
enum SkillVerb {
    /// Write it where the agent's host looks for skills; repeated, it brings it up to date
    Install(Install),
    /// Print it
    Show,
}

#[derive(Debug, Args)]
struct Install {
    /// Whose skills
    #[arg(long = "for", value_enum, value_name = "HOST", default_value = "openclaw", conflicts_with = "dir")]
    host: Host,
    /// Another folder of skills
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Also over files that somebody has changed; they are kept as NAME.old
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Host {
    Openclaw,
    Claude,
}

#[derive(Debug, Serialize)]
struct Written {
    folder: PathBuf,
    /// What became of each file: `new`, `updated`, `unchanged` or `replaced`.
    files: BTreeMap<&'static str, &'static str>,
}

impl Skill {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        match self.verb {
            SkillVerb::Show => {
                let (_, text) = FILES[0];
                session
                    .printer
                    .data(&serde_json::json!({ "name": NAME, "text": text }), || text.to_owned())?;
            }
            SkillVerb::Install(asked) => {
                let folder = asked.folder()?.join(NAME);
                let written = install(session, &folder, asked.force)?;
                session.printer.data(&written, || {
                    let files: Vec<_> = written.files.iter().collect();
                    format!(
                        "{}\n{}",
                        written.folder.display(),
                        show::lines(&files, "", |(name, what)| format!("  {name}  {what}"))
                    )
                })?;
                if let Some(deployed) = deployed(&folder) {
                    session.printer.talk(&format!(
                        "hint: {0}/{NAME}/p2p.js is another program; so that prompts that call it reach this one: \
                         p2p-comm skill install --force --dir {0}",
                        shell_word(&deployed.display().to_string())
                    ));
                }
            }
        }
        Ok(DONE)
    }
}

impl Install {
    fn folder(&self) -> Result<PathBuf, Error> {
        let variable =
            |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let place = match (&self.dir, self.host) {
            (Some(folder), _) => folder.clone(),
            (None, Host::Openclaw) => {
                variable("OPENCLAW_STATE_DIR").map_or_else(|| user(".openclaw"), Ok)?.join("skills")
            }
            (None, Host::Claude) => {
                variable("CLAUDE_CONFIG_DIR").map_or_else(|| user(".claude"), Ok)?.join("skills")
            }
        };
        std::path::absolute(&place).map_err(|error| unwritable(&place, &error))
    }
}

fn user(folder: &str) -> Result<PathBuf, Error> {
    let hint = "name the folder: p2p-comm skill install --dir DIR";
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    home.map(|home| home.join(folder))
        .ok_or_else(|| Error::new(ErrorKind::InvalidValue, "this user has no home folder", hint))
}

/// Where a deployed agent's own program is still called.
fn deployed(installed: &Path) -> Option<PathBuf> {
    let folder = user(DEPLOYED).ok()?;
    let program = folder.join(NAME).join("p2p.js");
    let is_ours = |text: String| text.contains("const INSTALLED = ");
    (folder.join(NAME) != *installed && fs::read_to_string(program).is_ok_and(|text| !is_ours(text)))
        .then_some(folder)
}

fn install(session: &Session, folder: &Path, force: bool) -> Result<Written, Error> {
    fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let launcher = &session.launcher;
    let words: Option<Vec<&str>> =
        std::iter::once(&launcher.program).chain(&launcher.args).map(|word| word.to_str()).collect();
    let words = serde_json::to_string(&words).map_err(Error::internal)?;
    let texts = FILES
        .map(|(name, text)| (name, text.replacen(LAUNCHER_LINE, &format!("const INSTALLED = {words}\n"), 1)));
    let manifest = folder.join(MANIFEST);
    let before: BTreeMap<String, String> =
        fs::read(&manifest).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut files = BTreeMap::new();
    for (name, text) in &texts {
        files.insert(*name, state(&folder.join(name), text, before.get(*name))?);
    }
    let changed: Vec<_> =
        files.iter().filter(|(_, state)| **state == "replaced").map(|(name, _)| *name).collect();
    if !changed.is_empty() && !force {
        return Err(Error::new(
            ErrorKind::InvalidValue,
            format!(
                "somebody has changed {} in {}, and nothing was written",
                changed.join(" and "),
                folder.display()
            ),
            "to have them replaced, and kept as NAME.old: add --force",
        ));
    }
    for (name, text) in &texts {
        let path = folder.join(name);
        match files[name] {
            "unchanged" => continue,
            "replaced" => {
                let kept = folder.join(format!("{name}.old"));
                fs::rename(&path, &kept).map_err(|error| unwritable(&kept, &error))?;
            }
            _ => {}
        }
        let mode = if name.ends_with(".js") { 0o755 } else { 0o644 };
        write_atomically(&path, text.as_bytes())
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|error| unwritable(&path, &error))?;
    }
    let now: BTreeMap<_, _> = texts.iter().map(|(name, text)| (*name, hash(text.as_bytes()))).collect();
    let bytes = serde_json::to_vec_pretty(&now).map_err(Error::internal)?;
    write_atomically(&manifest, &bytes).map_err(|error| unwritable(&manifest, &error))?;
    Ok(Written { folder: folder.to_path_buf(), files })
}

/// What is to become of a file that should hold `text`; `written` is the hash of what this program wrote there last.
fn state(path: &Path, text: &str, written: Option<&String>) -> Result<&'static str, Error> {
    let found = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok("new"),
        other => other.map_err(|error| unwritable(path, &error))?,
    };
    Ok(match written {
        _ if found == text.as_bytes() => "unchanged",
        Some(written) if *written == hash(&found) => "updated",
        _ => "replaced",
    })
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    not_written(path, error, ErrorKind::InvalidValue, "name a folder that you can write to: --dir DIR")
}
