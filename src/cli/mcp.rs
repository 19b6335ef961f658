//! `mcp`: the agent's tools for a language model's client, over stdin and stdout (Model Context Protocol).

use clap::Args;

use super::session::Session;
use super::{DONE, Verdict};
use crate::mcp;

/// Serve the agent's tools over the Model Context Protocol, on stdin and stdout
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm mcp      as a client starts it: {\"command\": \"p2p-comm\", \"args\": [\"mcp\"]}
         claude mcp add p2p-comm -- p2p-comm mcp

Tools: p2p_list_agents, p2p_call, p2p_wait, p2p_answer, p2p_send, p2p_send_file, p2p_escalate, p2p_end. The resource
p2p://inbox tells what waits. It ends with its stdin.")]
pub(super) struct Mcp {}

impl Mcp {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        mcp::serve(session.folder(), session.launcher.clone()).await?;
        Ok(DONE)
    }
}
