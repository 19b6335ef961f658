//! OpenClaw's three ways to be woken.
//!
//! Sources, as of November 2026: `docs/automation/cron-jobs/webhooks.md` and `docs/gateway/config-hooks.md` (the HTTP
//! contract: `POST /hooks/agent` with `message`, `name`, `deliver`, `agentId` and an `Idempotency-Key` of at most 256
//! characters, also as `idempotencyKey`; `POST /hooks/wake` with `text`, `mode`, `agentId`; `Authorization: Bearer`) and
//! `docs/cli/system.md` (`openclaw system event --text … --mode now`) of `openclaw/openclaw`. An answer of 2xx says that the
//! wake was admitted, not that a model has run: so a wake is repeated until what waits is taken.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::program::{self, Run};
use crate::home::read_secret;
use crate::home::settings::WakeWay;

/// The token, where no file is named.
pub const TOKEN_VARIABLE: &str = "P2P_WAKE_TOKEN";
/// How long the gateway may take: it holds a turn back for up to 15 s until there is room.
const POST_TIME: Duration = Duration::from_secs(30);
/// How long the program may take: it starts a Node.js and asks the gateway.
const PROGRAM_TIME: Duration = Duration::from_secs(60);
/// What the gateway shows as the sender.
const NAME: &str = "p2p-comm";

/// A host, and what it takes to wake it.
pub(super) struct Host {
    way: WakeWay,
    token_file: Option<PathBuf>,
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.fmt(formatter)
    }
}

impl Host {
    pub(super) fn new(way: WakeWay, token_file: Option<PathBuf>) -> Self {
        Self { way, token_file }
    }

    /// Wakes it. `once` names this wake: the same one again begins nothing twice, where the host remembers.
    pub(super) async fn wake(&self, words: &str, once: &str) -> Result<(), String> {
        let (endpoint, mut body) = match &self.way {
            WakeWay::Program(program) => return run(program, words).await,
            WakeWay::Turn(endpoint) => {
                // Its answer is for the other agent, and goes there by a command: announced in the owner's chat, a
                // peer's words would look like the agent's.
                let body = json!({
                    "message": words, "name": NAME, "wakeMode": "now", "deliver": false, "idempotencyKey": once,
                });
                (endpoint, body)
            }
            WakeWay::Notice(endpoint) => (endpoint, json!({ "text": words, "mode": "now" })),
        };
        if let (Some(agent), Some(body)) = (&endpoint.agent, body.as_object_mut()) {
            let _: &mut Map<String, Value> = body;
            body.insert("agentId".to_owned(), Value::from(agent.as_str()));
        }
        let token = self.token()?;
        let (url, once) = (endpoint.url.clone(), once.to_owned());
        let sent = tokio::task::spawn_blocking(move || post(&url, &token, &once, &body.to_string())).await;
        sent.map_err(|error| error.to_string())?
    }

    /// The token of the gateway's hooks: never an argument, and not a value of the settings.
    fn token(&self) -> Result<String, String> {
        let text = match &self.token_file {
            Some(path) => read_secret(path)
                .map_err(|error| format!("{}; {}", error.message, error.hint))?
                .expose()
                .to_owned(),
            None => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
        };
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "there is no token for it: p2p-comm config set wake_token_file FILE, or {TOKEN_VARIABLE} for the daemon"
            ));
        }
        Ok(token.to_owned())
    }
}

async fn run(program: &str, words: &str) -> Result<(), String> {
    let path = program::find(program).map_err(|error| format!("{program} cannot be run: {error}"))?;
    let words =
        [&path.display().to_string(), "system", "event", "--text", words, "--mode", "now"].map(str::to_owned);
    let run = Run { words: &words, variables: &[], input: String::new(), limit: PROGRAM_TIME };
    run.run().await.map_err(|error| error.to_string())
}

fn post(url: &str, token: &str, once: &str, json: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(POST_TIME))
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let sent = agent
        .post(url)
        .header("Authorization", format!("Bearer {token}"))
        .header("Idempotency-Key", once)
        .content_type("application/json")
        .send(json);
    match sent {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(refused(answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(refused(code)),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer in {} s", POST_TIME.as_secs())),
        Err(ureq::Error::HostNotFound) => Err("its host is not known".into()),
        Err(ureq::Error::Io(error)) => Err(error.kind().to_string()),
        Err(_) => Err("it cannot be reached".into()),
    }
}

fn refused(code: u16) -> String {
    let why = match code {
        400 => ": it does not take this agent or this request (hooks.allowedAgentIds)",
        401 => ": the token is not that of hooks.token",
        404 => ": hooks.enabled is off, or hooks.path is another",
        _ => "",
    };
    format!("it answered {code}{why}")
}
