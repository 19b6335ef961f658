//! What a client of the protocol asks, and what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomNotification,
    Implementation, JsonObject, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ResourceUpdatedNotificationParam, ServerCapabilities, ServerConfig, ServerNotification,
    SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::tools::{self, Asked};
use super::watch::{Follower, HandedOver, Waker};
use crate::api::{Command, Error, EventKind, to_json};
use crate::daemon::Line;

/// What waits for this agent, as a resource.
const INBOX: &str = "p2p://inbox";
/// A client that puts notifications of this capability before its model (Claude Code's channels).
const CHANNEL: &str = "claude/channel";
/// The name by which such a client introduces itself.
const CHANNEL_CLIENT: &str = "claude-code";

pub(super) struct Server {
    line: Arc<Line>,
    handed_over: HandedOver,
    /// Tells one client of changes of the inbox: `resources/subscribe` of protocol versions before 2026-07-28.
    following: Mutex<Option<AbortHandle>>,
}

impl Server {
    pub(super) fn new(line: Line) -> Self {
        Self { line: Arc::new(line), handed_over: HandedOver::default(), following: Mutex::new(None) }
    }

    async fn carry_out(&self, asked: Asked) -> Result<Value, Error> {
        fn json(reply: impl Serialize) -> Result<Value, Error> {
            serde_json::to_value(reply).map_err(Error::internal)
        }
        match asked {
            Asked::Command(command) => json(self.line.ask(command).await?),
            Asked::Wait(wait) => json(self.handed_over.wait(&*self.line, wait).await?),
        }
    }

    fn follow_for(&self, peer: Peer<RoleServer>) {
        let mut follower = Follower::new(&self.line);
        let told = tokio::spawn(async move {
            loop {
                follower.next().await;
                if peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(INBOX)).await.is_err() {
                    return;
                }
            }
        });
        self.replace_following(Some(told.abort_handle()));
    }

    fn replace_following(&self, task: Option<AbortHandle>) {
        let mut place = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *place, task) {
            before.abort();
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_experimental_with(BTreeMap::from([(CHANNEL.to_owned(), JsonObject::new())]))
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        let about = Implementation::new("p2p-comm", env!("CARGO_PKG_VERSION")).with_title("p2p-comm");
        ServerConfig::new(capabilities).with_server_info(about).with_instructions(tools::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::all().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(asked) = tools::read(&request.name, request.arguments.unwrap_or_default()) else {
            return Err(ErrorData::invalid_params(format!("there is no tool {}", request.name), None));
        };
        let carried_out = async { self.carry_out(asked?).await };
        let result = tokio::select! {
            biased;
            // Nobody reads the result any more.
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("cancelled", None)),
            result = carried_out => result,
        };
        let (value, failed) = match result {
            Ok(value) => (value, false),
            Err(error) => (json!({ "error": error }), true),
        };
        let text = to_json(&value).map_err(|error| ErrorData::internal_error(error.message, None))?;
        let mut answer = CallToolResult::success(vec![ContentBlock::text(text)]);
        answer.structured_content = Some(value);
        answer.is_error = Some(failed);
        Ok(answer.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let inbox = Resource::new(INBOX, "inbox")
            .with_title("Inbox")
            .with_description("Calls that ring, unread messages, missed calls, answers of the owner. Looking marks nothing.")
            .with_mime_type("application/json");
        Ok(ListResourcesResult::with_all_items(vec![inbox]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        is_inbox(&request.uri)?;
        let inbox = self.line.ask(Command::Inbox {}).await;
        let text = inbox.and_then(|inbox| to_json(&inbox)).map_err(|error| {
            ErrorData::internal_error(
                format!("{}; {}", error.message, error.hint),
                serde_json::to_value(error).ok(),
            )
        })?;
        let contents = ResourceContents::TextResourceContents {
            uri: INBOX.to_owned(),
            mime_type: Some("application/json".to_owned()),
            text,
            meta: None,
        };
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        is_inbox(&request.uri)?;
        self.follow_for(context.peer);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        is_inbox(&request.uri)?;
        self.replace_following(None);
        Ok(())
    }

    fn accepted_subscription_filter(&self, _: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().resource_subscriptions([INBOX]).build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut follower = Follower::new(&self.line);
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                _ = follower.next() => {}
            }
            if context.sink().notify_resource_updated(INBOX).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let peer = context.peer;
        if peer.peer_info().is_none_or(|client| client.client_info.name != CHANNEL_CLIENT) {
            return;
        }
        let mut waker = Waker::new(&self.line);
        tokio::spawn(async move {
            loop {
                let wake = channel_wake(waker.next().await);
                if peer.send_notification(wake).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn is_inbox(uri: &str) -> Result<(), ErrorData> {
    match uri == INBOX {
        true => Ok(()),
        false => {
            Err(ErrorData::resource_not_found(format!("there is no resource {uri}; there is {INBOX}"), None))
        }
    }
}

/// Nothing in it was written by another agent.
fn channel_wake(kind: EventKind) -> ServerNotification {
    let kind = kind.word();
    let words = format!("p2p-comm: something happened ({kind}). Call p2p_wait to see it.");
    let params = json!({ "content": words, "meta": { "kind": kind } });
    ServerNotification::CustomNotification(CustomNotification::new(
        "notifications/claude/channel",
        Some(params),
    ))
}
