//! The addresses of the door, and the methods behind them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cards;
use super::incoming::{Saying, Sending};
use super::rpc::{self, Fault, VERSION};
use super::tasks::{Beside, Task};
use crate::api::{
    AgentEntry, AgentList, CallReply, CallState, Command, Direction, Error, Messages, Status, WaitReply,
};
use crate::daemon::Line;
use crate::http;
use crate::proto::CallId;

/// Where A2A has a card stand.
const CARD: &str = ".well-known/agent-card.json";
/// How long `SendMessage` waits for an answer; then it returns the task as it stands. An agent may take minutes, and the
/// client's own timeout is mostly shorter.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a ring is waited for: longer than any rings.
const RING: Duration = Duration::from_secs(900);
/// How long a look at a call takes while nothing happens; between them a stream says that it is still there.
const LOOK_S: f64 = 15.0;
/// The same while words of the client wait for the call to be taken, which no event tells of when they are said.
const SHORT_LOOK_S: f64 = 1.0;
/// Most messages of a task.
const MESSAGES: usize = 200;
/// Tasks of which this process knows something that the daemon does not. The oldest calls are forgotten first.
const REMEMBERED: usize = 4_096;

pub(super) struct Server(Arc<Shared>);

struct Shared {
    line: Line,
    base: String,
    token: Option<http::Secret>,
    beside: Mutex<BTreeMap<CallId, Beside>>,
}

type Door = State<Arc<Shared>>;

impl Server {
    pub(super) fn new(line: Line, base: String, token: Option<http::Secret>) -> Self {
        Self(Arc::new(Shared { line, base, token, beside: Mutex::default() }))
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            .route(&format!("/{CARD}"), get(card_of_door))
            .route(&format!("/agents/{{agent}}/{CARD}"), get(card_of_agent))
            .route("/", post(ask_door))
            .route("/agents/{agent}/", post(ask_agent))
            .route("/agents/{agent}", post(ask_agent))
            .with_state(self.0)
    }
}

async fn card_of_door(State(door): Door) -> Response {
    match door.agents().await {
        Ok(agents) => json_answer(StatusCode::OK, &cards::of_door(&agents, &door.base, door.token.is_some())),
        Err(error) => failed(&error),
    }
}

async fn card_of_agent(State(door): Door, agent: Path<String>) -> Response {
    match door.agent(&agent).await {
        Ok(Some(found)) => {
            json_answer(StatusCode::OK, &cards::of_agent(&found, &door.base, door.token.is_some()))
        }
        Ok(None) => {
            (StatusCode::NOT_FOUND, "no agent of this name is online, or several are: use its npub\n")
                .into_response()
        }
        Err(error) => failed(&error),
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn failed(error: &Error) -> Response {
    json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error }))
}

async fn ask_door(State(door): Door, headers: HeaderMap, body: Body) -> Response {
    asked(door, None, &headers, body).await
}

async fn ask_agent(State(door): Door, agent: Path<String>, headers: HeaderMap, body: Body) -> Response {
    asked(door, Some(agent.0), &headers, body).await
}

async fn asked(door: Arc<Shared>, agent: Option<String>, headers: &HeaderMap, body: Body) -> Response {
    if !door.lets_in(headers) {
        let answer = "a token is needed: Authorization: Bearer TOKEN, as `p2p-comm a2a serve` printed it\n";
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], answer).into_response();
    }
    // No form of a web page can say that it is JSON without having asked whether it may.
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if media_type.split(';').next().unwrap_or_default().trim() != "application/json" {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json\n").into_response();
    }
    let Some(body) = http::body(body).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or did not come in time\n")
            .into_response();
    };
    let request = match rpc::read(&body) {
        Ok(request) => request,
        Err((id, fault)) => return told(&id, &Err(fault)),
    };
    let spoken = headers.get("a2a-version").and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    if !(spoken.is_empty() || spoken == VERSION || spoken.starts_with("1.0.")) {
        return told(&request.id, &Err(Fault::version()));
    }
    let (id, agent) = (request.id, agent.as_deref());
    match request.method.as_str() {
        "SendStreamingMessage" => match door.begin(agent, request.params).await {
            Ok((begun, history)) => streamed(door, id, begun, history),
            Err(fault) => told(&id, &Err(fault)),
        },
        "SubscribeToTask" => match door.follow(agent, request.params).await {
            Ok((begun, history)) => streamed(door, id, begun, history),
            Err(fault) => told(&id, &Err(fault)),
        },
        method => told(&id, &door.carry_out(agent, method, request.params).await),
    }
}

fn told(id: &Value, outcome: &Result<Value, Fault>) -> Response {
    ([(CONTENT_TYPE, "application/json")], rpc::response(id, outcome)).into_response()
}

/// A task whose changes are looked at from a place in the journal on.
#[derive(Debug, Clone, Copy)]
struct Begun {
    call: CallId,
    cursor: u64,
    /// Returns at once.
    at_once: bool,
}

/// The parameters of what is asked about one task.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    id: String,
    #[serde(default)]
    history_length: Option<usize>,
}

impl Shared {
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        given
            .split_once(' ')
            .is_some_and(|(scheme, text)| scheme.eq_ignore_ascii_case("bearer") && token.is(text.trim()))
    }

    async fn agents(&self) -> Result<Vec<AgentEntry>, Error> {
        let list: AgentList =
            self.line.ask(Command::List { capability: None, limit: None }).await?.try_into()?;
        Ok(list.agents)
    }

    /// The one agent online that goes by a name.
    async fn agent(&self, name: &str) -> Result<Option<AgentEntry>, Error> {
        let is_it = |agent: &AgentEntry| {
            agent.npub == name
                || agent.pubkey.to_string() == name
                || agent.contact.as_deref() == Some(name)
                || agent.id == name
        };
        let mut fitting = self.agents().await?.into_iter().filter(is_it);
        Ok(fitting.next().filter(|_| fitting.next().is_none()))
    }

    async fn carry_out(
        self: &Arc<Self>,
        agent: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value, Fault> {
        match method {
            "SendMessage" => {
                let (begun, history) = self.begin(agent, params).await?;
                Ok(json!({"task": self.settled(begun).await?.to_json(history)}))
            }
            "GetTask" => {
                let About { id, history_length } = about(params)?;
                Ok(self.named(agent, &id).await?.to_json(history_length))
            }
            "CancelTask" => {
                let About { id, history_length } = about(params)?;
                let task = self.named(agent, &id).await?;
                if task.call.state == CallState::Ended {
                    return Err(Fault::not_cancelable());
                }
                let call = task.call.call;
                self.remember(call, |beside| beside.canceled = true);
                self.line.ask(Command::End { call: Some(call) }).await?;
                Ok(self.task(call).await?.to_json(history_length))
            }
            "ListTasks" => Err(Fault::unsupported("tasks are not listed here", "see: p2p-comm calls")),
            "GetExtendedAgentCard" => Err(Fault::no_extended_card()),
            _ if method.ends_with("PushNotificationConfig")
                || method.ends_with("PushNotificationConfigs") =>
            {
                Err(Fault::no_push())
            }
            _ => Err(Fault::no_method(method)),
        }
    }

    /// Says what a client has to say: in the call that it names, or in a new one.
    async fn begin(
        self: &Arc<Self>,
        agent: Option<&str>,
        params: Value,
    ) -> Result<(Begun, Option<usize>), Fault> {
        let sending: Sending = serde_json::from_value(params)
            .map_err(|error| Fault::invalid_params(error, "see SendMessageRequest of A2A 1.0"))?;
        let (saying, configuration) = sending.read()?;
        let cursor = self.end().await?;
        let call = match &saying.task {
            Some(id) => {
                let task = self.named(agent, id).await?;
                if task.call.state == CallState::Ended {
                    return Err(Fault::unsupported("this task is over", "begin another: leave taskId out"));
                }
                task.call
            }
            None => self.called(agent.or(saying.agent.as_deref()), &saying).await?,
        };
        let begun = Begun { call: call.call, cursor, at_once: configuration.return_immediately };
        match call.state {
            CallState::Connected => self.say(&saying, call.call).await?,
            CallState::Ringing => {
                self.remember(call.call, |beside| beside.waiting = true);
                let (door, call) = (Arc::clone(self), call.call);
                tokio::spawn(async move { door.say_once_taken(&saying, call).await });
            }
            // The same message again, whose call is over by now.
            CallState::Ended => {}
        }
        Ok((begun, configuration.history_length))
    }

    /// The call in which something is to be said: one that is up with the peer that the client means, or a new one.
    async fn called(&self, agent: Option<&str>, saying: &Saying) -> Result<crate::api::Call, Fault> {
        let Some(agent) = agent else {
            let hint = "send to /agents/NAME/, or name the agent in the message's metadata";
            return Err(Fault::invalid_params("the message does not say for which agent it is", hint));
        };
        let wanted = saying.context.as_deref();
        if let Some(key) = wanted {
            let status: Status = self.line.ask(Command::Status {}).await?.try_into()?;
            let up = status.calls.into_iter().find(|call| {
                call.direction == Direction::Out
                    && call.peer.pubkey.to_string() == key
                    && is_named(&call.peer, agent)
            });
            if let Some(call) = up {
                return Ok(call);
            }
        }
        let reply: CallReply = self.line.ask(saying.call(agent)).await?.try_into()?;
        if wanted.is_some_and(|key| key != reply.call.peer.pubkey.to_string()) {
            if !reply.already {
                self.line.ask(Command::End { call: Some(reply.call.call) }).await?;
            }
            let hint = "leave contextId out, or take the one of an earlier task with this agent";
            return Err(Fault::invalid_params("this context is not one with this agent", hint));
        }
        Ok(reply.call)
    }

    async fn say(&self, saying: &Saying, call: CallId) -> Result<(), Error> {
        for command in saying.say(call) {
            self.line.ask(command).await?;
        }
        Ok(())
    }

    /// Waits until somebody has taken the call, then says what is to be said.
    async fn say_once_taken(&self, saying: &Saying, call: CallId) {
        let said = async {
            let wait = Command::AwaitCall { call, timeout_s: RING.as_secs_f64() };
            let reply: CallReply = self.line.ask(wait).await?.try_into()?;
            match reply.call.state {
                CallState::Connected => self.say(saying, call).await,
                CallState::Ringing | CallState::Ended => Ok(()),
            }
        };
        if let Err(error) = said.await {
            tracing::warn!(%call, %error, "a message of an A2A client could not be said");
            self.remember(call, |beside| beside.failed = Some(format!("{}; {}", error.message, error.hint)));
            // Nobody is left waiting in a call in which nothing comes.
            let _ = self.line.ask(Command::End { call: Some(call) }).await;
        }
        self.remember(call, |beside| beside.waiting = false);
    }

    async fn follow(&self, agent: Option<&str>, params: Value) -> Result<(Begun, Option<usize>), Fault> {
        let About { id, history_length } = about(params)?;
        let cursor = self.end().await?;
        let task = self.named(agent, &id).await?;
        if task.call.state == CallState::Ended {
            return Err(Fault::unsupported("this task is over", "see how it ended: GetTask"));
        }
        Ok((Begun { call: task.call.call, cursor, at_once: false }, history_length))
    }

    /// The task of this id, if it is one with this agent.
    async fn named(&self, agent: Option<&str>, id: &str) -> Result<Task, Fault> {
        let call: CallId = id.parse().map_err(|_| Fault::no_task())?;
        let task = self.task(call).await?;
        let is_its = agent.is_none_or(|agent| is_named(&task.call.peer, agent));
        match task.call.direction == Direction::Out && is_its {
            true => Ok(task),
            false => Err(Fault::no_task()),
        }
    }

    async fn task(&self, call: CallId) -> Result<Task, Error> {
        let reply: CallReply =
            self.line.ask(Command::AwaitCall { call, timeout_s: 0.0 }).await?.try_into()?;
        let read = Command::Messages { call: Some(call), unread: false, limit: MESSAGES };
        let Messages { messages, .. } = self.line.ask(read).await?.try_into()?;
        let beside = self.beside().get(&call).cloned().unwrap_or_default();
        Ok(Task { call: reply.call, messages, beside })
    }

    /// The task once it rests, or after as long as a client is kept waiting.
    async fn settled(&self, begun: Begun) -> Result<Task, Error> {
        let Begun { call, mut cursor, at_once } = begun;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let task = self.task(call).await?;
            if at_once || task.state().rests() || Instant::now() >= deadline {
                return Ok(task);
            }
            cursor = self.look(&task, cursor).await?;
        }
    }

    /// Waits a moment for something to happen in a call. Returns where to go on.
    async fn look(&self, task: &Task, cursor: u64) -> Result<u64, Error> {
        let timeout_s = if task.beside.waiting { SHORT_LOOK_S } else { LOOK_S };
        let call = Some(task.call.call);
        let wait = Command::Wait {
            consumer: None,
            after: Some(cursor),
            call,
            kinds: Vec::new(),
            ahead: 0,
            timeout_s,
        };
        let reply: WaitReply = self.line.ask(wait).await?.try_into()?;
        Ok(reply.event.map_or(reply.cursor, |event| event.cursor))
    }

    /// The end of the journal.
    async fn end(&self) -> Result<u64, Error> {
        let end = Command::Messages { call: None, unread: false, limit: 0 };
        Ok(Messages::try_from(self.line.ask(end).await?)?.cursor)
    }

    fn beside(&self) -> std::sync::MutexGuard<'_, BTreeMap<CallId, Beside>> {
        // Every change of the map is one call: a panic elsewhere leaves it whole.
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, call: CallId, change: impl FnOnce(&mut Beside)) {
        let mut all = self.beside();
        change(all.entry(call).or_default());
        all.retain(|_, beside| *beside != Beside::default());
        while all.len() > REMEMBERED {
            all.pop_first();
        }
    }
}

fn about(params: Value) -> Result<About, Fault> {
    serde_json::from_value(params).map_err(|error| Fault::invalid_params(error, "name the task: {\"id\": …}"))
}

fn is_named(peer: &crate::api::Peer, agent: &str) -> bool {
    peer.id == agent || peer.name == agent || peer.npub == agent || peer.pubkey.to_string() == agent
}

/// A stream of what changes (Server-Sent Events): the task, then each change of its state and each thing that the agent
/// brings about, until it rests.
fn streamed(door: Arc<Shared>, id: Value, begun: Begun, history: Option<usize>) -> Response {
    let stream =
        Streaming { door, id, cursor: begun.cursor, call: begun.call, history, told: None, over: false };
    let events = stream::unfold(stream, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), stream))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

struct Streaming {
    door: Arc<Shared>,
    id: Value,
    call: CallId,
    cursor: u64,
    history: Option<usize>,
    /// The task as it was told last.
    told: Option<Task>,
    over: bool,
}

impl Streaming {
    /// The next piece of the stream; a comment while nothing happens.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        match self.changes().await {
            Ok(changes) if changes.is_empty() => Some(": still here\n\n".to_owned()),
            Ok(changes) => Some(changes.into_iter().map(|change| self.event(&Ok(change))).collect()),
            Err(error) => {
                self.over = true;
                Some(self.event(&Err(error.into())))
            }
        }
    }

    fn event(&self, outcome: &Result<Value, Fault>) -> String {
        format!("data: {}\n\n", rpc::response(&self.id, outcome))
    }

    async fn changes(&mut self) -> Result<Vec<Value>, Error> {
        if let Some(task) = &self.told {
            self.cursor = self.door.look(task, self.cursor).await?;
        }
        let task = self.door.task(self.call).await?;
        self.over = task.state().rests();
        let changes = match &self.told {
            None => vec![json!({"task": task.to_json(self.history)})],
            Some(before) => {
                let (id, context) = (task.call.call, task.call.peer.pubkey);
                let artifact = |artifact: Value| {
                    json!({"artifactUpdate": {"taskId": id, "contextId": context, "artifact": artifact,
                                              "lastChunk": true}})
                };
                let known = before.artifacts();
                let fresh = task.artifacts().into_iter().filter(|artifact| !known.contains(artifact));
                let mut changes: Vec<_> = fresh.map(artifact).collect();
                if before.state() != task.state() || !changes.is_empty() {
                    let status = task.status();
                    changes.push(
                        json!({"statusUpdate": {"taskId": id, "contextId": context, "status": status}}),
                    );
                }
                changes
            }
        };
        self.told = Some(task);
        Ok(changes)
    }
}
