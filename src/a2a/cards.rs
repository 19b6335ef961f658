//! Agent cards: who is there, and how to reach them from here.

use serde_json::{Value, json};

use super::rpc::VERSION;
use crate::api::AgentEntry;
use crate::proto::text::printable;

/// Most agents that the door's own card names.
pub(super) const NAMED: usize = 100;

/// The card of an agent. What it says of itself is its claim.
pub(super) fn of_agent(agent: &AgentEntry, base: &str, guarded: bool) -> Value {
    let said = agent.card.as_ref();
    let description = said.map(|card| card.description.as_str()).filter(|text| !text.is_empty());
    let mut skills: Vec<Value> = said
        .iter()
        .flat_map(|card| &card.skills)
        .map(|skill| {
            let name = if skill.name.is_empty() { &skill.id } else { &skill.name };
            let tags = if skill.tags.is_empty() { std::slice::from_ref(&skill.id) } else { &skill.tags };
            entry(&skill.id, name, &skill.description, tags)
        })
        .collect();
    if skills.is_empty() {
        let capability =
            |word: &String| entry(word, word, "announced as a capability", std::slice::from_ref(word));
        skills.extend(agent.capabilities.iter().map(capability));
    }
    if skills.is_empty() {
        let tags = ["conversation".to_owned()];
        skills.push(entry("conversation", "Conversation", "Takes calls, and answers in words.", &tags));
    }
    let fallback = format!("The agent {} on Nostr, {}", agent.id, agent.npub);
    card(&agent.name, description.unwrap_or(&fallback), &address(base, &agent.npub), skills, guarded)
}

/// The card of the door itself: a skill for each agent that is online.
pub(super) fn of_door(agents: &[AgentEntry], base: &str, guarded: bool) -> Value {
    let skills = agents
        .iter()
        .take(NAMED)
        .map(|agent| {
            let said = agent.card.as_ref().map(|card| card.description.as_str()).unwrap_or_default();
            let words = format!("{said} Its own address: {}", address(base, &agent.npub));
            entry(&agent.npub, &agent.id, words.trim(), &agent.capabilities)
        })
        .collect();
    let description = "Agents on Nostr, by way of p2p-comm. Send to the address of one of them, or here with its name \
                       in the message's metadata: {\"agent\": \"NAME\"}.";
    card("p2p-comm", description, &format!("{base}/"), skills, guarded)
}

/// Where an agent is reached from here.
fn address(base: &str, npub: &str) -> String {
    format!("{base}/agents/{npub}/")
}

fn entry(id: &str, name: &str, description: &str, tags: &[String]) -> Value {
    let tags: Vec<_> = tags.iter().map(|tag| printable(tag)).collect();
    let name = printable(name);
    let description = if description.is_empty() { name.clone() } else { printable(description) };
    json!({"id": printable(id), "name": name, "description": description, "tags": tags})
}

fn card(name: &str, description: &str, url: &str, skills: Vec<Value>, guarded: bool) -> Value {
    let mut card = json!({
        "name": printable(name),
        "description": printable(description),
        "version": env!("CARGO_PKG_VERSION"),
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": VERSION}],
        "capabilities": {"streaming": true, "pushNotifications": false, "extendedAgentCard": false},
        "defaultInputModes": ["text/plain", "application/json", "application/octet-stream"],
        "defaultOutputModes": ["text/plain", "application/octet-stream"],
        "skills": skills,
    });
    if guarded {
        card["securitySchemes"] = json!({"bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}});
        card["securityRequirements"] = json!([{"schemes": {"bearer": {"list": []}}}]);
    }
    card
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Protocol;
    use crate::proto::{Card, Hex, Skill};

    fn agent(card: Option<Card>, capabilities: &[&str]) -> AgentEntry {
        AgentEntry {
            id: "bob".into(),
            name: "B\u{202e}ob".into(),
            pubkey: Hex([2; 32]),
            npub: "npub1bob".into(),
            capabilities: capabilities.iter().map(|word| (*word).into()).collect(),
            card,
            last_seen_s: 1,
            protocol: Protocol::V2,
            contact: None,
            pinned: false,
            duplicate_id: false,
            looks_like: None,
        }
    }

    #[test]
    fn a_card_has_what_a_client_requires_whatever_the_agent_says() {
        let skill = Skill { id: "translate".into(), ..Skill::default() };
        let said = Card { description: String::new(), skills: vec![skill] };
        for (agent, skill) in [
            (agent(None, &[]), "conversation"),
            (agent(None, &["search"]), "search"),
            (agent(Some(said), &["search"]), "translate"),
        ] {
            let card = of_agent(&agent, "http://127.0.0.1:1", true);
            assert_eq!(card["name"], "B\\u{202e}ob");
            assert_eq!(card["skills"][0]["id"], skill);
            assert!(!card["description"].as_str().unwrap().is_empty());
            assert!(!card["skills"][0]["description"].as_str().unwrap().is_empty());
            assert!(!card["skills"][0]["tags"].as_array().unwrap().is_empty());
            assert_eq!(card["supportedInterfaces"][0]["url"], "http://127.0.0.1:1/agents/npub1bob/");
        }
        assert_eq!(of_agent(&agent(None, &[]), "b", false).get("securitySchemes"), None);
    }
}
