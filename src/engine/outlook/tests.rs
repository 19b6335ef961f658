//! A crowd: everybody in it is found, and nobody listens to it who does not look.

use futures_util::{SinkExt, StreamExt};
use nostr_sdk::secp256k1::rand;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::api::{self, CallState, Command};
use crate::engine::clock;
use crate::engine::tests::{Agent, relay};
use crate::proto::presence::{Content, V2};
use crate::transport::{Identity, presence};

/// More than two full pages of the embedded relay's 500.
const AGENTS: usize = 1_100;

/// An announcement of a key that nobody has seen before, as of some seconds ago.
fn announcement(agent_id: &str, ago: u64) -> String {
    let created_at = clock::now().as_secs() - ago;
    let content = Content {
        agent_id: agent_id.into(),
        name: String::new(),
        capabilities: vec![],
        timestamp: None,
        p2p: Some(V2 { v: vec![2], inbox: vec![], pow: 0, rotations: vec![] }),
        card: None,
    };
    let announcement = presence::Announcement {
        agent_id,
        capabilities: &[],
        content: &content.to_json(),
        expires: created_at + 300,
        unlisted: false,
        version: Some(2),
    };
    format!(r#"["EVENT",{}]"#, presence::sign(&Identity::generate(), &announcement, created_at).unwrap().json)
}

/// Publishes, and returns when the relay has everything.
async fn publish(url: &str, events: Vec<String>) {
    let (mut socket, _) = connect_async(url).await.unwrap();
    let mut left = events.len();
    for event in events {
        socket.send(Message::text(event)).await.unwrap();
    }
    while left > 0 {
        let message = socket.next().await.unwrap().unwrap();
        if message.to_text().is_ok_and(|text| text.starts_with(r#"["OK""#)) {
            assert!(message.to_text().unwrap().contains("true"), "{message}");
            left -= 1;
        }
    }
}

async fn list(agent: &Agent) -> Vec<String> {
    let list: api::AgentList = agent.ask(Command::List { capability: None, limit: None }).await;
    list.agents.into_iter().map(|agent| agent.id).collect()
}

async fn is_listening(agent: &Agent) -> bool {
    let metrics: api::Metrics = agent.ask(Command::Metrics {}).await;
    let listening = metrics.metrics.iter().find(|metric| metric.name == "p2p_comm_listening").unwrap();
    listening.samples[0].value > 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_complete_over_many_pages_and_a_crowd_is_only_listened_to_by_who_looks() {
    let relay = relay().await;
    // Some seconds hold more of them than others, and pages end inside seconds.
    let ago = || u64::from(rand::random::<u8>() % 100);
    let crowd = (0..AGENTS).map(|number| announcement(&format!("agent-{number:04}"), ago())).collect();
    publish(&relay.url(), crowd).await;
    let looker = Agent::start("looker", &relay.url());
    let mut found = list(&looker).await;
    found.sort_unstable();
    let expected: Vec<String> = (0..AGENTS).map(|number| format!("agent-{number:04}")).collect();
    assert_eq!(found, expected);

    // Whoever comes while nobody listens is found by whoever looks for it.
    while is_listening(&looker).await {}
    publish(&relay.url(), vec![announcement("newcomer", 0)]).await;
    let ring = looker.call("newcomer").await;
    assert_eq!((ring.state, ring.peer.id.as_str()), (CallState::Ringing, "newcomer"));
    assert!(is_listening(&looker).await);
    while is_listening(&looker).await {}
    publish(&relay.url(), vec![announcement("another", 0)]).await;
    assert_eq!(list(&looker).await.len(), AGENTS + 2);
    looker.engine.stop().await;
    relay.stop().await;
}
