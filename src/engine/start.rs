//! Opening a home: identity, settings, database, relays, and the thread that owns them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use super::book::Book;
use super::clock;
use super::code;
use super::core::{Core, Parts, told};
use super::earlier::{self, Earlier, grace_left};
use super::handle::{Handle, Request};
use super::keys;
use super::seen::SeenEvents;
use super::turns::Inputs;
use super::v2::Lines;
use super::works::Works;
use crate::api::{Error, ErrorKind};
use crate::home::{Home, Settings, settings};
use crate::owner::Channels;
use crate::proto::call::{Limits, Myself, Switchboard};
use crate::proto::{CallId, PublicKey, Rotation};
use crate::store::{self, Store};
use crate::transport::v2::{SessionOptions, SessionPool};
use crate::transport::{BadRelayUrl, Class, Inbound, Options as PoolOptions, Pool, Tuning};

/// Commands that wait for the engine's thread. Beyond it whoever asks waits too.
const COMMANDS: usize = 4_096;
/// What relays sent and the engine has not handled. Beyond it the sockets wait.
const INBOUND: usize = 1_024;
/// Reports of the owner's channels.
const REPORTS: usize = 64;
/// Ids of handled events kept in front of verification: a look-back's worth of them.
const SEEN: usize = 50_000;

/// What an engine is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the agent.
    pub home: Home,
    /// What it is set to.
    pub settings: Settings,
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    key: PublicKey,
    agent_id: String,
    reloads: watch::Receiver<u64>,
    stop: Mutex<Option<oneshot::Sender<oneshot::Sender<()>>>>,
}

impl Engine {
    /// Opens the home and connects. Makes the identity on the first run, and remembers what the agent is known by.
    /// Must be called inside a tokio runtime; the caller holds the home's lock.
    ///
    /// # Errors
    /// `identity-damaged`, `unsafe-identity`, `agent-id-mismatch`, `database-damaged`, `disk-full`,
    /// `version-mismatch`, `invalid-value`.
    pub fn start(options: Options) -> Result<Self, Error> {
        let Made { core, inputs, commands } = Made::of(options)?;
        let (key, agent_id) = (core.me.key, core.me.agent_id.clone());
        let reloads = core.reloads.subscribe();
        let (stop, stopping) = oneshot::channel();
        let runtime = Runtime::current();
        std::thread::Builder::new()
            .name("p2p-engine".into())
            .spawn(move || runtime.block_on(core.run(inputs, stopping)))
            .map_err(|error| Error::internal(format_args!("no thread for the engine: {error}")))?;
        Ok(Self { handle: Handle::new(commands), key, agent_id, reloads, stop: Mutex::new(Some(stop)) })
    }

    /// A way to ask it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Changes whenever the settings are taken anew, and after the files of the home were changed.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.clone()
    }

    /// The agent's key.
    pub fn public_key(&self) -> PublicKey {
        self.key
    }

    /// The agent's id.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// Takes the presence back, lets what is under way leave, and ends. Calls are kept for the next start.
    pub async fn stop(&self) {
        let stop = self.stop.lock().ok().and_then(|mut stop| stop.take());
        if let Some(stop) = stop {
            let (stopped, ended) = oneshot::channel();
            if stop.send(stopped).is_ok() {
                // An error only means that it has ended already.
                _ = ended.await;
            }
        }
    }
}

/// An engine before it has a thread.
pub(super) struct Made {
    pub(super) core: Core,
    inputs: Inputs,
    commands: mpsc::Sender<Request>,
}

impl Made {
    pub(super) fn of(options: Options) -> Result<Self, Error> {
        let Options { home, mut settings } = options;
        // While it is still the one that was loaded.
        code::running();
        let (identity, rotations) = keys::open_or_create(&home)?;
        let key = identity.public_key();
        let agent_id =
            settings.agent_id.clone().unwrap_or_else(|| format!("agent-{}", &key.to_string()[..8]));
        let name = settings.name.clone().unwrap_or_else(|| agent_id.clone());
        settings.agent_id = Some(agent_id.clone());
        settings::remember(&home, &agent_id, &name, &settings.capabilities, &settings.relays)?;
        let me = Myself { key, agent_id: agent_id.clone(), name };
        let mut owner = Channels::new(&settings.owner, &key);
        owner.quiet = settings.owner_quiet;
        let store = Store::open(&home.database()).map_err(|error| told(&error))?;

        let (commands, command_inputs) = mpsc::channel(COMMANDS);
        let (inbound, relay_inputs) = mpsc::channel(INBOUND);
        let (reports, owner_inputs) = mpsc::channel(REPORTS);
        let seen = SeenEvents::new(store.seen(SEEN).map_err(|error| told(&error))?, SEEN);
        let cursors = store.cursors().map_err(|error| told(&error))?;
        let class = |name: &str| Class::ALL.into_iter().find(|class| class.name() == name);
        let cursors: Vec<_> = cursors
            .into_iter()
            .filter_map(|(relay, name, since)| Some((relay, class(&name)?, since)))
            .collect();
        let bad_relay = |error: BadRelayUrl| {
            let hint = "p2p-comm config set relays wss://…,wss://…";
            Error::new(ErrorKind::InvalidValue, error.to_string(), hint)
        };
        let sessions = SessionPool::start(SessionOptions {
            relays: settings.relays.clone(),
            inbound: inbound.clone(),
            tuning: Tuning::DEFAULT,
        })
        .map_err(bad_relay)?;
        let options = PoolOptions {
            relays: settings.relays.clone(),
            inbox: settings.inbox_relays(),
            identity: identity.clone(),
            cursors,
            inbound,
            seen: Some(seen.filter()),
            tuning: Tuning::DEFAULT,
        };
        let from_before = listen_to_earlier(&home, &key, &rotations, &store, &options)?;
        let (earlier, earlier_inputs) = match from_before {
            Some((earlier, inputs)) => (Some(earlier.map_err(bad_relay)?), inputs),
            None => (None, earlier::nobody()),
        };
        let pool = Pool::start(options).map_err(bad_relay)?;
        let (lines, mined) = Lines::new();
        let (works, worked) = Works::new(&home);
        let limits = Limits {
            max_calls: settings.max_calls,
            ring_time: std::time::Duration::from_secs(settings.ring_time_s),
        };
        let book = Book::load(&store).map_err(|error| told(&error))?;
        let mut core = Core::new(Parts {
            home,
            settings,
            identity,
            rotations,
            earlier,
            board: Switchboard::new(me.clone(), limits),
            me,
            store,
            book,
            pool,
            sessions,
            lines,
            seen,
            owner,
            reports,
            works,
        });
        core.apply_policies();
        core.need_webhook_secret();
        core.restore().map_err(|error| told(&error))?;
        core.begin_durability(clock::now()).map_err(|error| told(&error))?;
        let inputs = Inputs {
            commands: command_inputs,
            relays: relay_inputs,
            earlier: earlier_inputs,
            owner: owner_inputs,
            mined,
            worked,
        };
        Ok(Self { core, inputs, commands })
    }
}

/// The links and the channel of the key from before, if its time is not over or a call is held with it.
type FromBefore = Option<(Result<Earlier, BadRelayUrl>, mpsc::Receiver<Inbound>)>;

fn listen_to_earlier(
    home: &Home,
    key: &PublicKey,
    rotations: &[Rotation],
    store: &Store,
    options: &PoolOptions,
) -> Result<FromBefore, Error> {
    let Some(rotation) = rotations.iter().rfind(|rotation| rotation.new == *key) else { return Ok(None) };
    let left = grace_left(rotation, clock::now());
    let held = || -> Result<BTreeSet<CallId>, store::Error> {
        let mut held = BTreeSet::new();
        for stored in store.live_calls()? {
            if store.meta(&earlier::note_of(&stored.call.id))?.is_some() {
                held.insert(stored.call.id);
            }
        }
        Ok(held)
    };
    let calls = held().map_err(|error| told(&error))?;
    if left.is_zero() && calls.is_empty() {
        return Ok(None);
    }
    let Some(identity) = keys::earlier(home, &rotation.old) else { return Ok(None) };
    let (inbound, inputs) = mpsc::channel(INBOUND);
    let options = PoolOptions {
        relays: Vec::new(),
        inbox: options.inbox.clone(),
        identity,
        cursors: options.cursors.clone(),
        inbound,
        seen: options.seen.clone(),
        tuning: Tuning::DEFAULT,
    };
    Ok(Some((Earlier::begin(options, left, calls), inputs)))
}
