//! What the page shows, read from the daemon, and made fit to be shown.

use serde_json::{Map, Value, json};

use crate::api::{Command, Error, ErrorKind, EventKind, Messages};
use crate::daemon::Line;
use crate::proto::CallId;
use crate::proto::text::printable;

/// How long a look waits for something to happen. A question of the agent's own stands in no journal, so the page looks
/// again after this time whatever happens.
const LOOK_S: f64 = 2.0;
/// Calls that the page lists, and messages of one call.
const CALLS: usize = 50;
const MESSAGES: usize = 500;
/// Longest text of the overview, and of a transcript, characters: a page is for looking at. `p2p-comm transcript` has
/// all of it.
const BRIEF: usize = 2_000;
const WHOLE: usize = 20_000;

/// All that the overview shows, once something has happened after `after`, or after two seconds.
pub(super) async fn overview(line: &Line, after: u64) -> Result<Value, Error> {
    let kinds =
        EventKind::ALL.iter().copied().filter(|kind| *kind != EventKind::FileProgress).collect::<Vec<_>>();
    let wait =
        Command::Wait { consumer: None, after: Some(after), call: None, kinds, ahead: 0, timeout_s: LOOK_S };
    match line.ask(wait).await {
        Ok(_) => {}
        // So much has happened since that it is time to look.
        Err(error) if error.kind == ErrorKind::CursorExpired => {}
        Err(error) => return Err(error),
    }
    // The cursor first: what happens while the rest is read is shown the next time.
    let Messages { cursor, .. } =
        line.ask(Command::Messages { call: None, unread: false, limit: 0 }).await?.try_into()?;
    let mut all = Map::from_iter([("cursor".to_owned(), json!(cursor))]);
    for (name, command) in [
        ("status", Command::Status {}),
        ("inbox", Command::Inbox {}),
        ("calls", Command::Calls { limit: CALLS }),
        ("contacts", Command::Contacts {}),
    ] {
        let reply = line.ask(command).await?;
        all.insert(name.to_owned(), serde_json::to_value(reply).map_err(Error::internal)?);
    }
    Ok(shown(Value::Object(all), BRIEF))
}

/// What was said in a call, the newest messages of it.
pub(super) async fn conversation(line: &Line, call: CallId) -> Result<Value, Error> {
    let messages = line.ask(Command::Messages { call: Some(call), unread: false, limit: MESSAGES }).await?;
    Ok(shown(serde_json::to_value(messages).map_err(Error::internal)?, WHOLE))
}

/// With every text cut to a length, and nothing in it that controls, hides or reorders.
fn shown(value: Value, most: usize) -> Value {
    match value {
        Value::String(text) => {
            let cut = text.char_indices().nth(most).map(|(place, _)| place);
            Value::String(match cut {
                None => printable(&text),
                Some(place) => format!("{}… (cut here)", printable(&text[..place])),
            })
        }
        Value::Array(items) => items.into_iter().map(|item| shown(item, most)).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, shown(value, most))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_hides_nothing_and_is_bounded() {
        let hostile = json!({"text": "a\u{202e}b\u{1b}[31m\u{200b}", "more": ["x".repeat(30)], "n": 1});
        let fit = shown(hostile, 20);
        assert_eq!(fit["text"], "a\\u{202e}b\\u{1b}[31m\\u{200b}");
        assert_eq!(fit["more"][0], format!("{}… (cut here)", "x".repeat(20)));
        assert_eq!(fit["n"], 1);
    }
}
