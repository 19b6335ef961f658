//! The addresses of the dashboard.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Sessions;
use super::view;
use crate::api::{Command, Error, ErrorKind, call_id, to_json};
use crate::daemon::Line;
use crate::http;
use crate::proto::TicketId;

/// The page, as it lies in the program.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/app.css", "text/css; charset=utf-8", include_str!("assets/app.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("assets/app.js")),
    ("/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// Why a page that a program has begun answers nothing.
const NO_PERSON: &str =
    "this page was begun by a program, not by a person at a terminal: it can show, and answer nothing";

/// What all requests share.
pub(super) struct Page {
    line: Line,
    sessions: Sessions,
    person: bool,
}

type Shared = State<Arc<Page>>;

impl Page {
    pub(super) fn new(line: Line, sessions: Sessions, person: bool) -> Self {
        Self { line, sessions, person }
    }

    pub(super) fn router(self) -> Router {
        let mut router = Router::new();
        for (path, media_type, content) in FILES {
            router = router.route(path, get(async move || ([(CONTENT_TYPE, media_type)], content)));
        }
        router
            .route("/api/session", post(begin))
            .route("/api/state/{after}", get(state))
            .route("/api/transcript/{call}", get(transcript))
            .route("/api/answer", post(answer))
            .with_state(Arc::new(self))
    }

    fn known(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self.sessions.knows(headers) {
            true => Ok(()),
            false => Err(Refusal(StatusCode::UNAUTHORIZED, no_session())),
        }
    }
}

/// An error as the page reads it.
struct Refusal(StatusCode, Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            ErrorKind::NotAllowed => StatusCode::FORBIDDEN,
            ErrorKind::UnknownCall => StatusCode::NOT_FOUND,
            ErrorKind::DaemonUnreachable | ErrorKind::DaemonNotResponding => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self(status, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

struct Json(Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        match to_json(&self.0) {
            Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.message).into_response(),
        }
    }
}

fn no_session() -> Error {
    let message = "the address that was printed counts once, for the tab in which it was opened";
    Error::new(ErrorKind::NotAllowed, message, "begin again: p2p-comm dashboard")
}

/// Reads the body of a request: JSON, said to be JSON, so that no form of another page can pass for it.
async fn read<T: for<'a> Deserialize<'a>>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    let wrong = |why: String| Error::new(ErrorKind::Usage, why, "reload the page");
    if headers.get(CONTENT_TYPE).is_none_or(|media_type| media_type != "application/json") {
        return Err(wrong("the body is not application/json".to_owned()).into());
    }
    let bytes = http::body(body).await.ok_or_else(|| wrong("the body did not come".to_owned()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("the body is not as agreed: {error}")).into())
}

#[derive(Deserialize)]
struct Begin {
    token: String,
}

async fn begin(State(page): Shared, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Begin { token } = read(&headers, body).await?;
    let admission =
        page.sessions.admit(&token).ok_or_else(|| Refusal(StatusCode::UNAUTHORIZED, no_session()))?;
    let why_not = (!page.person).then_some(NO_PERSON);
    let told = json!({"key": admission.key, "may_answer": page.person, "why_not": why_not});
    Ok(([(SET_COOKIE, admission.set_cookie)], Json(told)).into_response())
}

async fn state(State(page): Shared, headers: HeaderMap, after: Path<u64>) -> Result<Json, Refusal> {
    page.known(&headers)?;
    Ok(Json(view::overview(&page.line, *after).await?))
}

async fn transcript(State(page): Shared, headers: HeaderMap, call: Path<String>) -> Result<Json, Refusal> {
    page.known(&headers)?;
    match call_id(Some(&call))? {
        Some(call) => Ok(Json(view::conversation(&page.line, call).await?)),
        None => Err(Refusal(StatusCode::NOT_FOUND, no_session())),
    }
}

#[derive(Deserialize)]
struct Answer {
    ticket: TicketId,
    answer: String,
}

async fn answer(State(page): Shared, headers: HeaderMap, body: Body) -> Result<Json, Refusal> {
    page.known(&headers)?;
    let Answer { ticket, answer } = read(&headers, body).await?;
    if !page.person {
        let hint = "the owner runs `p2p-comm dashboard` in a terminal, or answers by a configured way";
        return Err(Error::new(ErrorKind::NotAllowed, NO_PERSON, hint).into());
    }
    // The daemon looks at this process for itself. An option with hidden characters in it is offered to the page
    // without them, and so is refused: its owner should see it as it is, in a terminal.
    let reply = page.line.ask(Command::OwnerReply { ticket, answer }).await?;
    Ok(Json(serde_json::to_value(reply).map_err(Error::internal)?))
}
