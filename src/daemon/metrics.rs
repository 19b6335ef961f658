//! The figures of an engine, for Prometheus to fetch. On the loopback address unless the user names another.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::AbortHandle;

use crate::api::{Command, Error, Metrics};
use crate::engine::Handle;
use crate::http;

/// What Prometheus calls its text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the figures are served; until it is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    task: AbortHandle,
    pub(super) url: String,
}

impl Endpoint {
    pub(super) async fn open(address: SocketAddr, handle: Handle) -> Result<Self, Error> {
        let (listener, address) = http::listen(address).await?;
        let names = match address.ip().is_loopback() {
            true => http::Names::Loopback(address.port()),
            false => http::Names::Any,
        };
        let router = http::guard(Router::new().route("/metrics", get(figures)).with_state(handle), names);
        let task = tokio::spawn(http::serve(listener, router)).abort_handle();
        let url = format!("http://{address}/metrics");
        tracing::info!(url, "metrics are served");
        Ok(Self { task, url })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn figures(State(handle): State<Handle>) -> Response {
    match handle.ask(Command::Metrics {}).await.and_then(Metrics::try_from) {
        Ok(metrics) => ([(CONTENT_TYPE, MEDIA_TYPE)], metrics.to_prometheus()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.message)).into_response(),
    }
}
