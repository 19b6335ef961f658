//! What an agent is set to: flags count more than the environment, the environment more than `config.toml`, and that
//! more than the defaults.
//!
//! The first start writes what the agent is known by (id, name, capabilities, relays) to `config.toml`, so that it stays
//! the same agent when a shell forgets a variable. From then on a variable that differs is pointed out.

mod file;
mod keys;
mod way;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::keys::{KEYS, Key, WEBHOOK_SECRET, webhook_key};
pub use self::way::WakeWay;
use super::Home;
use crate::api::{Error, ErrorKind};
use crate::proto::{Durability, QuietHours, StrangerPolicy, Tier};

/// Where agents meet unless told otherwise (docs/protocol.md, section 4).
pub const DEFAULT_RELAYS: [&str; 3] = ["wss://nos.lol", "wss://relay.primal.net", "wss://nostr.mom"];
/// Where agents of the default relays read their wraps: two that hand them out to their receiver only, and one where
/// everybody is (docs/protocol.md, section 4).
const DEFAULT_INBOX: [&str; 3] = ["wss://auth.nostr1.com", "wss://relay.ditto.pub", "wss://nos.lol"];
/// Most inbox relays: NIP-17 asks for one to three.
const INBOX_LIMIT: usize = 3;
/// How long a call rings: what deployed agents wait before they give up (docs/protocol.md, section 3).
pub const DEFAULT_RING_TIME_S: u64 = 60;
/// How many calls may be up at once; the next caller hears that we are busy (docs/protocol.md, section 5).
pub const DEFAULT_CALLS_LIMIT: u64 = 16;
/// After how long a wake is repeated that nobody has answered: long enough for a model to be loaded and to look.
pub const DEFAULT_WAKE_REPEAT_S: u64 = 60;
/// The largest file taken of a contact, MiB.
pub const DEFAULT_FILE_LIMIT_MIB: u64 = 4_096;
/// The largest file taken of anybody else, MiB: more than most files are, and no harm if it is unwanted.
pub const DEFAULT_FILE_LIMIT_OTHERS_MIB: u64 = 256;

/// What an agent is set to, all sources taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The agent id; made from the public key if absent.
    pub agent_id: Option<String>,
    /// The display name; the agent id if absent.
    pub name: Option<String>,
    /// What the agent announces that it can do.
    pub capabilities: Vec<String>,
    /// What the agent is for, for whoever looks for one.
    pub description: Option<String>,
    /// What it can do, each as [`crate::proto::read_skill`] takes it.
    pub skills: Vec<String>,
    /// The relays, for every role.
    pub relays: Vec<String>,
    /// Ways to the human owner, tried in this order.
    pub owner: Vec<String>,
    /// When the owner is left alone.
    pub owner_quiet: Option<QuietHours>,
    /// What signs a webhook's messages.
    pub owner_webhook_secret: Option<String>,
    /// What the deployed agents call the audit mode.
    pub audit_mode: Option<String>,
    /// Where the audit log goes.
    pub audit_log: Option<PathBuf>,
    /// Where figures are served; nowhere if absent.
    pub metrics: Option<SocketAddr>,
    /// What a commit waits for.
    pub durability: Durability,
    /// How long a call rings, seconds.
    pub ring_time_s: u64,
    /// How many calls may be up at once.
    pub max_calls: usize,
    /// What becomes of rings of strangers.
    pub strangers: StrangerPolicy,
    /// Whose rings are taken without asking: of this tier and above; nobody's if absent.
    pub auto_accept: Option<Tier>,
    /// Agents to wake when something waits.
    pub wake: Vec<WakeWay>,
    /// Where the token of OpenClaw's hooks is.
    pub wake_token_file: Option<PathBuf>,
    /// After how long a wake is repeated for the first time, seconds.
    pub wake_repeat_s: u64,
    /// The largest file taken of a contact, MiB.
    pub file_limit_mib: u64,
    /// The largest file taken of anybody else, MiB.
    pub file_limit_others_mib: u64,
    /// Servers that keep encrypted files for agents that are away: scheme, host and port.
    pub blossom: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent_id: None,
            name: None,
            capabilities: Vec::new(),
            description: None,
            skills: Vec::new(),
            relays: DEFAULT_RELAYS.map(String::from).to_vec(),
            owner: Vec::new(),
            owner_quiet: None,
            owner_webhook_secret: None,
            audit_mode: None,
            audit_log: None,
            metrics: None,
            durability: Durability::default(),
            ring_time_s: DEFAULT_RING_TIME_S,
            max_calls: DEFAULT_CALLS_LIMIT as usize,
            strangers: StrangerPolicy::default(),
            auto_accept: None,
            wake: Vec::new(),
            wake_token_file: None,
            wake_repeat_s: DEFAULT_WAKE_REPEAT_S,
            file_limit_mib: DEFAULT_FILE_LIMIT_MIB,
            file_limit_others_mib: DEFAULT_FILE_LIMIT_OTHERS_MIB,
            blossom: Vec::new(),
        }
    }
}

/// What the setting `auto_accept` says for everybody.
const ANYONE: &str = "anyone";

/// The word of the setting `auto_accept`.
pub fn auto_accept_word(from: Option<Tier>) -> &'static str {
    match from {
        None => "never",
        Some(Tier::Stranger) => ANYONE,
        Some(tier) => tier.word(),
    }
}

impl Settings {
    /// Most bytes of a file that is taken: of a contact, or of somebody else.
    pub fn file_limit(&self, of_contact: bool) -> u64 {
        let mib = if of_contact { self.file_limit_mib } else { self.file_limit_others_mib };
        mib.saturating_mul(1 << 20)
    }

    /// Where wraps to this agent are read. Relays that the user chooses have every role.
    pub fn inbox_relays(&self) -> Vec<String> {
        match self.relays == DEFAULT_RELAYS {
            true => DEFAULT_INBOX.map(String::from).to_vec(),
            false => self.relays.iter().take(INBOX_LIMIT).cloned().collect(),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A flag of this command.
    Flag,
    /// This environment variable.
    Variable(&'static str),
    /// `config.toml`.
    File,
}

/// One value, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which setting.
    pub key: &'static Key,
    /// Its value.
    pub value: toml::Value,
    /// Where it comes from.
    pub source: Source,
}

/// Every setting that was set somewhere, and what is odd about the sources.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layers {
    /// What counts, in the order of [`KEYS`].
    pub entries: Vec<Entry>,
    /// What the user is told: unknown keys, variables that differ from the file.
    pub warnings: Vec<Warning>,
}

/// Something odd about the settings that keeps nobody from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is.
    pub what: String,
    /// What mends it.
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.what, self.remedy)
    }
}

/// Reads every source. `flags` are settings by name, as `--set name=value` gives them.
///
/// # Errors
/// `invalid-value` that names the flag, the variable, or the file and line.
pub fn load(home: &Home, flags: &[(String, String)]) -> Result<Layers, Error> {
    load_with(home, flags, |name| std::env::var(name).ok())
}

fn load_with(
    home: &Home,
    flags: &[(String, String)],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Layers, Error> {
    if let Some((name, _)) = flags.iter().find(|(name, _)| Key::find(name).is_none()) {
        return Err(unknown_key(name));
    }
    let (mut in_file, mut warnings) = file::read(home)?;
    let mut entries = Vec::new();
    for key in &KEYS {
        let from_flag = flags.iter().rev().find(|(name, _)| name == key.name);
        let from_flag = from_flag
            .map(|(name, text)| key.parse(text).map_err(|why| invalid(&format!("--set {name}"), &why)))
            .transpose()?;
        let from_variable = key
            .variable
            .and_then(|name| Some((name, variable(name).filter(|text| !text.trim().is_empty())?)))
            .map(|(name, text)| {
                key.parse(&text).map(|value| (name, value)).map_err(|why| invalid(name, &why))
            })
            .transpose()?;
        let from_file = in_file.remove(key.name);
        if let (true, Some((name, value)), Some(kept)) = (key.remembered, &from_variable, &from_file)
            && value != kept
        {
            warnings.push(Warning {
                what: format!(
                    "{name} differs from {} in config.toml, and counts when the daemon starts",
                    key.name
                ),
                remedy: format!(
                    "to change the file: p2p-comm config set {} \"${name}\"; to keep it: unset {name}",
                    key.name
                ),
            });
        }
        let winner = from_flag
            .map(|value| (value, Source::Flag))
            .or(from_variable.map(|(name, value)| (value, Source::Variable(name))))
            .or(from_file.map(|value| (value, Source::File)));
        entries.extend(winner.map(|(value, source)| Entry { key, value, source }));
    }
    Ok(Layers { entries, warnings })
}

impl Layers {
    /// All sources taken together, with the defaults for what nobody set.
    pub fn settings(&self) -> Settings {
        let defaults = Settings::default();
        let text = |name: &str| self.value(name)?.as_str().map(String::from);
        let list = |name: &str| {
            let items = self.value(name)?.as_array()?;
            Some(items.iter().filter_map(|item| item.as_str().map(String::from)).collect())
        };
        let number = |name: &str| self.value(name)?.as_integer().and_then(|value| u64::try_from(value).ok());
        Settings {
            agent_id: text("agent_id"),
            name: text("name"),
            capabilities: list("capabilities").unwrap_or(defaults.capabilities),
            description: text("description").filter(|text| !text.is_empty()),
            skills: list("skills").unwrap_or(defaults.skills),
            relays: list("relays").unwrap_or(defaults.relays),
            owner: list("owner").unwrap_or(defaults.owner),
            owner_quiet: text("owner_quiet").and_then(|hours| hours.parse().ok()),
            owner_webhook_secret: text("owner_webhook_secret").filter(|secret| !secret.is_empty()),
            audit_mode: text("audit_mode"),
            audit_log: text("audit_log").map(PathBuf::from),
            metrics: text("metrics").and_then(|text| keys::address(&text)),
            durability: text("durability")
                .and_then(|word| Durability::from_word(&word))
                .unwrap_or(defaults.durability),
            ring_time_s: number("ring_time_s").unwrap_or(defaults.ring_time_s),
            max_calls: number("max_calls").map_or(defaults.max_calls, |value| value as usize),
            strangers: text("strangers")
                .and_then(|word| StrangerPolicy::from_word(&word))
                .unwrap_or(defaults.strangers),
            auto_accept: text("auto_accept").and_then(|word| match word.as_str() {
                ANYONE => Some(Tier::Stranger),
                word => Tier::from_word(word),
            }),
            wake: list("wake").map_or(defaults.wake, |ways: Vec<String>| {
                // The reader of the file has checked each.
                ways.iter().filter_map(|text| WakeWay::parse(text).ok()).collect()
            }),
            wake_token_file: text("wake_token_file").filter(|path| !path.is_empty()).map(PathBuf::from),
            wake_repeat_s: number("wake_repeat_s").unwrap_or(defaults.wake_repeat_s),
            file_limit_mib: number("file_limit_mib").unwrap_or(defaults.file_limit_mib),
            file_limit_others_mib: number("file_limit_others_mib").unwrap_or(defaults.file_limit_others_mib),
            blossom: list("blossom").map_or(defaults.blossom, |servers: Vec<String>| {
                servers.iter().map(|server| server.trim_end_matches('/').to_owned()).collect()
            }),
        }
    }

    /// The value of a setting, if somebody set it.
    pub fn value(&self, name: &str) -> Option<&toml::Value> {
        self.entries.iter().find(|entry| entry.key.name == name).map(|entry| &entry.value)
    }
}

/// Writes what the agent is known by, as far as `config.toml` does not have it yet. For the first start.
///
/// # Errors
/// `invalid-value` if the file cannot be read, `disk-full` or `unsafe-home` if it cannot be written.
pub fn remember(
    home: &Home,
    agent_id: &str,
    name: &str,
    capabilities: &[String],
    relays: &[String],
) -> Result<(), Error> {
    let list = |items: &[String]| toml::Value::from(items.to_vec());
    let values = [
        ("agent_id", toml::Value::from(agent_id)),
        ("name", toml::Value::from(name)),
        ("capabilities", list(capabilities)),
        ("relays", list(relays)),
    ];
    file::change(home, &values, file::Existing::Stays)
}

/// The agent id that the home is known by since its first start, whatever the environment says.
///
/// # Errors
/// `invalid-value` if the file cannot be read.
pub fn remembered_agent_id(home: &Home) -> Result<Option<String>, Error> {
    let (values, _) = file::read(home)?;
    Ok(values.get("agent_id").and_then(|id| id.as_str()).map(String::from))
}

/// Sets one value in `config.toml`, and leaves the rest of the file, comments included, as it is.
///
/// # Errors
/// `invalid-value` for an unknown key or a value out of its range.
pub fn set(home: &Home, name: &str, text: &str) -> Result<&'static Key, Error> {
    let key = Key::find(name).ok_or_else(|| unknown_key(name))?;
    let value = key.parse(text).map_err(|why| invalid(name, &why))?;
    file::change(home, &[(key.name, value)], file::Existing::IsReplaced)?;
    Ok(key)
}

/// Sets a list in `config.toml`, whose items may hold commas.
///
/// # Errors
/// As [`set`].
pub fn set_list(home: &Home, name: &str, items: &[String]) -> Result<(), Error> {
    let key = Key::find(name).ok_or_else(|| unknown_key(name))?;
    let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
    let value = toml::Value::Array(items.map(toml::Value::from).collect());
    key.check(&value).map_err(|why| invalid(name, &why))?;
    file::change(home, &[(key.name, value)], file::Existing::IsReplaced)
}

/// The error for a setting that does not exist.
pub fn unknown_key(name: &str) -> Error {
    let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    Error::new(
        ErrorKind::InvalidValue,
        format!("there is no setting {}", crate::proto::text::quote(name)),
        format!("settings: {}", names.join(", ")),
    )
}

fn invalid(place: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidValue, format!("{place}: {why}"), "see: p2p-comm config --help")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn home(config: &str) -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        if !config.is_empty() {
            fs::write(home.config(), config).unwrap();
        }
        (folder, home)
    }

    fn flag(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn without_any_source_the_defaults_count() {
        let (_folder, home) = home("");
        assert_eq!(load_with(&home, &[], |_| None).unwrap().settings(), Settings::default());
    }

    #[test]
    fn flags_beat_variables_beat_the_file() {
        let (_folder, home) = home("name = 'file'\nagent_id = 'file'\nmax_calls = 2\n");
        let variable = |name: &str| name.starts_with("P2P_AGENT").then(|| "variable".to_owned());
        let layers = load_with(&home, &[flag("name", "flag")], variable).unwrap();
        let settings = layers.settings();
        assert_eq!(settings.name.as_deref(), Some("flag"));
        assert_eq!(settings.agent_id.as_deref(), Some("variable"));
        assert_eq!(settings.max_calls, 2);
        assert_eq!(layers.entries[0].source, Source::Variable("P2P_AGENT_ID"));
    }

    #[test]
    fn lists_of_the_deployed_agents_are_split_at_commas() {
        let (_folder, home) = home("");
        let variable = |name: &str| {
            (name == "P2P_NOSTR_RELAYS").then(|| " ws://127.0.0.1:7447 , wss://nos.lol/,".to_owned())
        };
        let settings = load_with(&home, &[], variable).unwrap().settings();
        assert_eq!(settings.relays, ["ws://127.0.0.1:7447", "wss://nos.lol/"]);
    }

    #[test]
    fn a_remembered_value_stays_and_a_variable_that_differs_is_pointed_out() {
        let (_folder, home) = home("");
        remember(&home, "alice", "Alice", &["x".into()], &["wss://nos.lol".into()]).unwrap();
        remember(&home, "bob", "Bob", &[], &[]).unwrap();
        let same =
            load_with(&home, &[], |name| (name == "P2P_AGENT_ID").then(|| "alice".to_owned())).unwrap();
        assert_eq!(same.warnings, []);
        assert_eq!(same.settings().name.as_deref(), Some("Alice"));
        let other = load_with(&home, &[], |name| (name == "P2P_AGENT_ID").then(|| "bob".to_owned())).unwrap();
        assert_eq!(other.settings().agent_id.as_deref(), Some("bob"));
        assert_eq!(other.warnings.len(), 1);
        assert!(
            other.warnings[0].what.starts_with("P2P_AGENT_ID differs from agent_id"),
            "{:?}",
            other.warnings
        );
    }

    #[test]
    fn a_malformed_file_is_an_error_with_its_line() {
        for (config, line) in [
            ("name = 'a'\nrelays = [", "line 2"),
            ("\n\nmax_calls = 'many'", "line 3"),
            ("relays = ['http://x']", "line 1"),
            ("name = 1", "line 1"),
        ] {
            let (_folder, home) = home(config);
            let error = load_with(&home, &[], |_| None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidValue, "{config}");
            assert!(error.message.contains("config.toml") && error.message.contains(line), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_pointed_out_and_kept() {
        let (_folder, home) = home("# mine\ncolour = 'blue'   # not ours\n[table]\nname = 'other'\n");
        let layers = load_with(&home, &[], |_| None).unwrap();
        assert_eq!(layers.warnings.len(), 2, "{:?}", layers.warnings);
        set(&home, "name", "Alice").unwrap();
        set(&home, "name", "Al\"ice").unwrap();
        let text = fs::read_to_string(home.config()).unwrap();
        assert!(text.contains("# mine\ncolour = 'blue'   # not ours\n[table]\nname = 'other'\n"), "{text}");
        assert_eq!(
            load_with(&home, &[], |_| None).unwrap().settings().name.as_deref(),
            Some("Al\"ice"),
            "{text}"
        );
    }

    #[test]
    fn a_list_of_ways_keeps_its_order_and_their_commas() {
        let (_folder, home) = home("");
        let ways = ["exec:a,b".to_owned(), " ".to_owned(), "https://h.example/?a=1,2".to_owned()];
        set_list(&home, "owner", &ways).unwrap();
        let settings = load_with(&home, &[], |_| None).unwrap().settings();
        assert_eq!(settings.owner, ["exec:a,b", "https://h.example/?a=1,2"]);
        assert_eq!(
            set_list(&home, "owner", &vec!["x".into(); 65]).unwrap_err().kind,
            ErrorKind::InvalidValue
        );
    }

    #[test]
    fn values_out_of_range_are_refused_wherever_they_come_from() {
        let (_folder, home) = home("");
        for (name, value) in [
            ("max_calls", "0"),
            ("max_calls", "-1"),
            ("ring_time_s", "1e9"),
            ("agent_id", " "),
            ("name", "a\u{1b}[31m"),
            ("relays", "ftp://x"),
            ("relays", ""),
            ("owner_quiet", "at night"),
            ("owner_webhook_secret", "whsec_c2hvcnQ="),
            ("owner_webhook_secret", "hunter2"),
            ("colour", "blue"),
        ] {
            let error = set(&home, name, value).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidValue, "{name} = {value}");
            let error = load_with(&home, &[flag(name, value)], |_| None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidValue, "{name} = {value}");
        }
        assert!(!home.config().exists());
    }
}
