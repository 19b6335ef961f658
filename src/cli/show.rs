//! How things look without `--json`: short lines, one thing a line, other people's words in marked quotation.

use crate::api::{
    AgentEntry, Call, CallState, Channel, Contact, Event, KeyChanged, Message, MessageKind, Peer,
    RelayStatus, Sender, Ticket, TicketState, Transcript,
};
use crate::proto::text::{quote, quote_lines};

/// Lines, one for each; `nothing` if there are none.
pub(super) fn lines<T>(things: &[T], nothing: &str, line: impl Fn(&T) -> String) -> String {
    if things.is_empty() {
        return nothing.to_owned();
    }
    things.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn call(call: &Call) -> String {
    let mut line = format!(
        "call {}  {} {}  {}  topic {}",
        call.call,
        call.direction.word(),
        call.state.word(),
        peer(&call.peer),
        quote(&call.topic)
    );
    if call.state == CallState::Ended {
        line.push_str(&format!("  {}", call.end_reason.map_or("ended", |reason| reason.word())));
        if let Some(reason) = &call.reason {
            line.push_str(&format!(" {}", quote(reason)));
        }
    }
    if call.messages > 0 {
        line.push_str(&format!("  messages {}", call.messages));
    }
    if call.away {
        line.push_str("  away");
    }
    line
}

fn peer(peer: &Peer) -> String {
    let name = if peer.name == peer.id { String::new() } else { format!(" {}", quote(&peer.name)) };
    let warning = looks_like(peer.looks_like.as_deref());
    format!("{} {}{name} {}{warning}", peer.tier.word(), quote(&peer.id), peer.npub)
}

fn looks_like(other: Option<&str>) -> String {
    other.map_or_else(String::new, |other| format!("  LOOKS LIKE {}, WHICH IS ANOTHER KEY", quote(other)))
}

pub(super) fn message(message: &Message) -> String {
    format!("{}  {}", message.at, timeless(message))
}

/// Mail of somebody who is not let in: how to let them in is what its reader wants to know.
pub(super) fn waiting_mail(mail: &Message) -> String {
    format!("{}\n  from {}; to let it in: p2p-comm contacts add NAME {}", message(mail), mail.peer, mail.peer)
}

fn timeless(message: &Message) -> String {
    let speaker = match message.from {
        Sender::Peer => format!("peer {} {}", message.tier.word(), message.peer),
        Sender::Me | Sender::Owner => message.from.word().to_owned(),
    };
    let mut line = format!("{speaker}  {}", body(message));
    match message.from {
        Sender::Peer => {}
        Sender::Me | Sender::Owner => line.push_str(&format!("  {}", message.state.word())),
    }
    if let Some(reason) = &message.reason {
        line.push_str(&format!(": {}", quote(reason)));
    }
    line.push_str(&format!("  message {}", message.message));
    if let Some(call) = message.call {
        line.push_str(&format!("  call {call}"));
    }
    line
}

fn body(message: &Message) -> String {
    match (&message.file, message.kind) {
        (Some(file), _) => {
            let place = file.path.as_ref().map_or_else(String::new, |path| format!("  at {}", quote(path)));
            format!("file {} {} bytes {}{place}", quote(&file.name), file.size, quote(&file.mime))
        }
        (None, MessageKind::Escalation) => format!("asks its owner {}", quote(&message.text)),
        // A peer's word, like all that it says.
        (None, MessageKind::System) if message.from == Sender::Peer => {
            format!("says that its owner answered {}", quote(&message.text))
        }
        (None, MessageKind::Text | MessageKind::File | MessageKind::System) => quote(&message.text),
    }
}

pub(super) fn ticket(ticket: &Ticket) -> String {
    let mut line = format!("ticket {}  {}  {}", ticket.ticket, ticket.state.word(), quote(&ticket.question));
    if let Some(answer) = &ticket.answer {
        line.push_str(&format!("  answer {}", quote(answer)));
    }
    if let (TicketState::Waiting, Some(until)) = (ticket.state, ticket.expires_at) {
        line.push_str(&format!("  until {until}"));
    }
    if let Some(asked_at) = ticket.asked_at.filter(|asked_at| *asked_at > ticket.at) {
        line.push_str(&format!("  put to the owner at {asked_at}"));
    }
    for channel in &ticket.channels {
        line.push_str(&format!("\n  {}", way(channel, "asked")));
    }
    if ticket.state == TicketState::NoOwner {
        line.push_str("\nhint: nobody was asked; name a way to the owner: p2p-comm owner set CHANNEL");
    }
    line
}

/// A way to the owner; `well` is what there is to say if nothing is known against it.
pub(super) fn way(channel: &Channel, well: &str) -> String {
    let outcome = channel.error.as_deref().map_or_else(|| well.to_owned(), quote);
    format!("{}  {outcome}", quote(&channel.channel))
}

pub(super) fn agent(agent: &AgentEntry) -> String {
    let mut line = format!(
        "{} {} {}  {}  seen {} s ago",
        quote(&agent.id),
        quote(&agent.name),
        agent.npub,
        agent.protocol.word(),
        agent.last_seen_s
    );
    if !agent.capabilities.is_empty() {
        let capabilities: Vec<_> = agent.capabilities.iter().map(|name| quote(name)).collect();
        line.push_str(&format!("  can {}", capabilities.join(" ")));
    }
    if let Some(contact) = &agent.contact {
        line.push_str(&format!("  contact {}", quote(contact)));
    }
    if agent.pinned {
        line.push_str("  pinned");
    }
    if agent.duplicate_id {
        line.push_str("  ANOTHER KEY CLAIMS THIS ID: call it by its key");
    }
    line.push_str(&looks_like(agent.looks_like.as_deref()));
    if let Some(card) = &agent.card {
        if !card.description.is_empty() {
            line.push_str(&format!("\n  is for {}", quote(&card.description)));
        }
        for skill in &card.skills {
            line.push_str(&format!("\n  skill {} {}", quote(&skill.id), quote(&skill.description)));
        }
    }
    line
}

pub(super) fn contact(contact: &Contact) -> String {
    let mut line = format!(
        "{}  {}  {}  fingerprint {}",
        quote(&contact.name),
        contact.npub,
        contact.tier.word(),
        contact.fingerprint
    );
    if contact.verified {
        line.push_str("  verified");
    }
    if let Some(id) = &contact.agent_id {
        line.push_str(&format!("  pinned id {}", quote(id)));
    }
    if contact.blocked {
        line.push_str("  blocked");
    }
    if contact.allow_legacy {
        line.push_str("  allow-legacy");
    }
    for claimant in &contact.claimed_by {
        line.push_str(&format!("\n  ANOTHER KEY CLAIMS THIS ID, AND IS BLOCKED: {claimant}"));
    }
    line
}

pub(super) fn relay(relay: &RelayStatus) -> String {
    let state = if relay.connected { "connected" } else { "not connected" };
    let mut line = format!("relay {}  {state}", quote(&relay.url));
    if let Some(rtt) = relay.rtt_ms {
        line.push_str(&format!("  {rtt:.0} ms"));
    }
    if let Some(error) = &relay.error {
        line.push_str(&format!("  {}", quote(error)));
    }
    if relay.refused > 0 {
        let words = relay.refusal.as_deref().unwrap_or_default();
        line.push_str(&format!(
            "  refused {} of {} events  {}",
            relay.refused,
            relay.refused + relay.accepted,
            quote(words)
        ));
    }
    match &relay.session {
        Some(session) if !session.connected => line.push_str("  for calls not connected"),
        Some(session) if session.echo_ms.is_none() && session.error.is_some() => {
            line.push_str("  for calls no echo");
        }
        _ => {}
    }
    line
}

/// What happened, and where to continue.
pub(super) fn event(event: &Event) -> String {
    let mut line = format!("{}  {}", event.at, event.kind.word());
    if let Some(of) = &event.call_state {
        line.push_str(&format!("  {}", call(of)));
    }
    if let Some(of) = &event.message {
        line.push_str(&format!("  {}", timeless(of)));
    }
    if let Some(of) = &event.escalation {
        line.push_str(&format!("  {}", ticket(of)));
    }
    if let Some(KeyChanged { agent_id, pinned, claimed_by, followed }) = &event.key_changed {
        let agent_id = quote(agent_id);
        line.push_str(&match followed {
            true => format!("  {agent_id} has replaced its key {pinned} with {claimed_by}"),
            false => format!("  {agent_id} is pinned to {pinned}; {claimed_by} claims it, and is blocked"),
        });
    }
    if let Some(of) = &event.strangers {
        line.push_str(&format!(
            "  since {}: {} calls and {} messages wait, {} and {} dropped; see: p2p-comm inbox",
            of.since, of.calls_waiting, of.mail_waiting, of.calls_dropped, of.mail_dropped
        ));
    }
    if let Some(note) = &event.relay {
        line.push_str(&format!("  {} {}", quote(&note.url), quote(&note.detail)));
    }
    format!("{line}\ncursor {}", event.cursor)
}

/// A transcript for people; `indent` begins each line of a message.
fn transcript(of: &Transcript, title: &str, fact: &str, speaker: &str, indent: &str) -> String {
    let ended = of.ended_at.map_or_else(|| "not yet".to_owned(), |at| at.to_string());
    let mut text = format!(
        "{title}Call {}\n\n{fact}topic     {}\n{fact}caller    {}\n{fact}callee    {}\n{fact}started   {}\n\
         {fact}ended     {ended}\n{fact}duration  {:.0} s\n{fact}messages  {}\n",
        of.call,
        quote(&of.topic),
        quote(&of.caller),
        quote(&of.callee),
        of.started_at,
        of.duration_s,
        of.message_count,
    );
    for message in &of.messages {
        let words = match message.kind {
            MessageKind::Text => quote_lines(&message.text, indent),
            MessageKind::File | MessageKind::Escalation | MessageKind::System => {
                format!("{indent}{}\n", body(message))
            }
        };
        let tier = match message.from {
            Sender::Peer => format!(", {}", message.tier.word()),
            Sender::Me | Sender::Owner => String::new(),
        };
        text.push_str(&format!(
            "\n{speaker}{}{speaker}{tier}, {}, {}, message {}\n\n{words}",
            message.from.word(),
            message.at,
            message.state.word(),
            message.message,
        ));
    }
    text
}

/// As plain text.
pub(super) fn transcript_text(of: &Transcript) -> String {
    transcript(of, "", "", "", "  | ")
}

/// As Markdown. What peers wrote stands in indented code, where nothing is interpreted.
pub(super) fn transcript_markdown(of: &Transcript) -> String {
    transcript(of, "# ", "    ", "**", "    ")
}

/// As a page: the plain text in one block, with nothing in it that a browser would interpret or fetch.
pub(super) fn transcript_html(of: &Transcript) -> String {
    let mut text = String::new();
    for character in transcript_text(of).chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            _ => text.push(character),
        }
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">\n\
         <title>Call {}</title>\n<pre>\n{text}</pre>\n</html>\n",
        of.call
    )
}
