//! An owner with a key of Nostr, one with a program, and peers who would like to be the owner.

use std::path::Path;

use super::super::clock;
use super::super::tests::{Agent, LONG_S, connected, relay};
use crate::api::{self, Command, EventKind, MessageKind, Sender, TicketState};
use crate::proto::{Millis, TicketId};
use crate::transport::npub;

const MAIL: &[EventKind] = &[EventKind::MessageReceived];
const DECIDED: &[EventKind] = &[EventKind::EscalationAnswered];

fn owned_by(way: &str) -> impl FnOnce(&mut crate::home::Settings) {
    let way = way.to_owned();
    move |settings| settings.owner = vec![way]
}

fn question(words: &str, options: &[&str], expires_s: Option<f64>) -> Command {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Command::Escalate { question: words.into(), options, call: None, expires_s }
}

async fn ask(agent: &Agent, command: Command) -> api::Ticket {
    agent.ask::<api::TicketReply>(command).await.ticket
}

async fn ticket(agent: &Agent, id: &TicketId) -> api::Ticket {
    ask(agent, Command::AwaitTicket { ticket: *id, timeout_s: 0.0 }).await
}

/// The next message that somebody got.
async fn heard(agent: &Agent) -> api::Message {
    agent.event(MAIL).await.message.unwrap()
}

async fn write(from: &Agent, to: &Agent, words: String) {
    let to = Some(to.engine.public_key().to_string());
    from.ask::<api::Message>(Command::Send {
        text: words,
        call: None,
        to,
        client_id: None,
        wait: None,
        traceparent: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_decides_by_its_key_once_and_nobody_else_by_repeating_the_id() {
    let relay = relay().await;
    let (human, eve) = (Agent::start("human", &relay.url()), Agent::start("eve", &relay.url()));
    let key = human.engine.public_key();
    let alice = Agent::with("alice", &relay.url(), owned_by(&format!("nostr:{}", npub(&key))));
    let (call, _) = connected(&alice, &eve).await;
    let asked = ask(&alice, question("May I pay?", &["yes", "no"], None)).await;
    let id = asked.ticket;
    let letter = heard(&human).await.text;
    assert!(letter.contains("> May I pay?\n") && letter.contains(&id.to_string()), "{letter}");
    assert!(letter.contains("with a known peer, npub1"), "{letter}");

    write(&eve, &alice, format!("{id} yes")).await;
    let got = alice.event(MAIL).await.message.unwrap();
    assert_eq!((got.from, got.kind, got.text), (Sender::Peer, MessageKind::Text, format!("{id} yes")));
    assert_eq!(ticket(&alice, &id).await.state, TicketState::Waiting);

    write(&human, &alice, format!("{id} maybe")).await;
    let told = heard(&human).await.text;
    assert!(told.contains("none of its answers: «yes» «no»"), "{told}");
    assert_eq!(ticket(&alice, &id).await.state, TicketState::Waiting);

    write(&human, &alice, format!("{}: YES", id.to_string().to_uppercase())).await;
    let decided = alice.event(DECIDED).await.escalation.unwrap();
    assert_eq!((decided.state, decided.answer.as_deref()), (TicketState::Answered, Some("yes")));
    assert!(decided.channels[0].ok, "{decided:?}");
    assert_eq!(alice.transcript(&call).await.last().unwrap(), &(Sender::Owner, "yes".to_owned()));
    assert!(heard(&human).await.text.contains("«yes»"));

    write(&human, &alice, format!("{id} no")).await;
    let told = heard(&human).await.text;
    assert!(told.contains("answered before, with «yes»"), "{told}");
    assert_eq!(ticket(&alice, &id).await.answer.as_deref(), Some("yes"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_decides_nothing_and_an_answer_that_comes_too_late_is_told_so() {
    let relay = relay().await;
    let human = Agent::start("human", &relay.url());
    let key = human.engine.public_key();
    let alice = Agent::with("alice", &relay.url(), owned_by(&format!("nostr:{key}")));
    let id = ask(&alice, question("Quick?", &["yes", "no"], Some(3.0))).await.ticket;
    heard(&human).await;
    let over = alice.event(DECIDED).await.escalation.unwrap();
    assert_eq!((over.state, over.answer), (TicketState::Expired, None));
    write(&human, &alice, format!("{id} yes")).await;
    let told = heard(&human).await.text;
    assert!(told.contains("is over, and nothing was decided"), "{told}");
    assert_eq!(ticket(&alice, &id).await.state, TicketState::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owners_word_that_names_no_question_decides_nothing_and_reaches_the_agent() {
    let relay = relay().await;
    let human = Agent::start("human", &relay.url());
    let key = human.engine.public_key();
    let alice = Agent::with("alice", &relay.url(), owned_by(&format!("nostr:{key}")));
    let id = ask(&alice, question("May I?", &["yes", "no"], None)).await.ticket;
    heard(&human).await;
    write(&human, &alice, "yes".into()).await;
    assert_eq!(heard(&alice).await.text, "yes");
    let told = heard(&human).await.text;
    assert!(told.contains("Which question") && told.contains(&format!("{id}  «May I?»")), "{told}");
    assert_eq!(ticket(&alice, &id).await.state, TicketState::Waiting);
    // Several at once, each with its id, and one of them in two lines.
    let free = ask(&alice, question("What name?", &[], None)).await.ticket;
    heard(&human).await;
    write(&human, &alice, format!("{id} no\n{free} Bob\nand Eve")).await;
    alice.event(DECIDED).await;
    alice.event(DECIDED).await;
    assert_eq!(ticket(&alice, &id).await.answer.as_deref(), Some("no"));
    assert_eq!(ticket(&alice, &free).await.answer.as_deref(), Some("Bob\nand Eve"));
}

/// A program that writes down what it was asked, a line each.
fn program(folder: &Path) -> String {
    script(folder, "owner", &format!("cat >> {}", folder.join("asked").display()))
}

/// A program of these lines.
fn script(folder: &Path, name: &str, lines: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    format!("exec:{}", path.display())
}

async fn asked(folder: &Path, count: usize) -> Vec<serde_json::Value> {
    let read = || std::fs::read_to_string(folder.join("asked")).unwrap_or_default();
    let wait = async {
        while read().lines().count() < count {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs_f64(LONG_S), wait).await.unwrap();
    read().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_reaches_the_owner_as_ten_and_one_that_holds_the_rest() {
    let relay = relay().await;
    let folder = tempfile::tempdir().unwrap();
    let alice = Agent::with("alice", &relay.url(), owned_by(&program(folder.path())));
    for number in 0..25 {
        ask(&alice, question(&format!("question {number}"), &[], None)).await;
    }
    let told = asked(folder.path(), 11).await;
    let (alone, together): (Vec<_>, Vec<_>) = told.iter().partition(|json| json["ticket"].is_string());
    assert_eq!((alone.len(), together.len()), (10, 1));
    assert_eq!(together[0]["questions"].as_array().unwrap().len(), 15);
    assert!(together[0]["text"].as_str().unwrap().starts_with("Your agent «alice» asks you 15 questions"));
    let open: api::Questions = alice.ask(Command::Questions {}).await;
    assert_eq!(open.questions.len(), 25);
    assert_eq!(alice.refused(Command::OwnerTest {}).await, api::ErrorKind::TooFast);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_waits_for_the_word_of_each_way_though_one_has_answered_it() {
    let relay = relay().await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let ways = [
        script(folder.path(), "slow", &format!("cat {}", gate.display())),
        script(folder.path(), "quick", r#"echo '{"answer": "seen"}'"#),
    ];
    let alice = Agent::with("alice", &relay.url(), |settings| settings.owner = ways.to_vec());
    let id = ask(&alice, Command::OwnerTest {}).await.ticket;
    let decided = ask(&alice, Command::AwaitTicket { ticket: id, timeout_s: LONG_S }).await;
    assert_eq!((decided.state, decided.channels.len()), (TicketState::Answered, 1));
    let look = |timeout_s| alice.ask::<api::TicketReply>(Command::AwaitWays { ticket: id, timeout_s });
    assert!(look(0.0).await.timeout, "one has said nothing yet");
    std::fs::write(&gate, "").unwrap();
    let told = look(LONG_S).await;
    let channels: Vec<_> = told.ticket.channels.iter().map(|channel| channel.channel.clone()).collect();
    assert_eq!((told.timeout, channels), (false, ways.to_vec()), "in the order in which they were named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_quiet_hours_only_what_cannot_wait_reaches_the_owner() {
    let relay = relay().await;
    let folder = tempfile::tempdir().unwrap();
    let way = program(folder.path());
    let minutes = clock::now().as_secs() / 60;
    let clock_at = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let quiet = format!("{}-{} UTC", clock_at(minutes + 1_380), clock_at(minutes + 120));
    let alice = Agent::with("alice", &relay.url(), |settings| {
        settings.owner = vec![way];
        settings.owner_quiet = Some(quiet.parse().unwrap());
    });
    let waits = ask(&alice, question("by the way", &[], None)).await;
    let urgent = ask(&alice, question("now or never", &[], Some(3_600.0))).await;
    let end = Millis::from_secs((minutes + 120) * 60);
    assert_eq!((waits.asked_at.unwrap().0, urgent.asked_at), (end, Some(urgent.at)));
    let told = asked(folder.path(), 1).await;
    assert_eq!(told[0]["question"], "now or never");
    // A test is for somebody who sits there.
    ask(&alice, Command::OwnerTest {}).await;
    assert_eq!(asked(folder.path(), 2).await.len(), 2);
    assert_eq!(ticket(&alice, &waits.ticket).await.channels, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_the_owner_is_told_that_another_is() {
    let relay = relay().await;
    let folder = tempfile::tempdir().unwrap();
    let human = Agent::start("human", &relay.url());
    let key = human.engine.public_key();
    let before = [program(folder.path()), format!("nostr:{key}")];
    let alice = Agent::with("alice", &relay.url(), |settings| settings.owner = before.to_vec());
    let home = crate::home::Home::open(Some(alice.folder.path())).unwrap();
    let change = |ways: &[String]| crate::home::settings::set_list(&home, "owner", ways).unwrap();
    // The same again is no change.
    change(&before);
    alice.ask::<api::Done>(Command::Reload {}).await;
    change(&["telegram:666".to_owned()]);
    alice.ask::<api::Done>(Command::Reload {}).await;
    let told = asked(folder.path(), 1).await;
    assert_eq!(told[0]["ways"], serde_json::json!(["telegram:…"]));
    assert!(told[0]["ticket"].is_null() && told[0]["questions"].is_null());
    assert!(heard(&human).await.text.contains("in other ways from now on: «telegram:…»"));
    // Who was the owner is a peer from now on.
    let id = ask(&alice, question("May I?", &["yes", "no"], None)).await.ticket;
    write(&human, &alice, format!("{id} yes")).await;
    assert_eq!(heard(&alice).await.text, format!("{id} yes"));
    assert_eq!(ticket(&alice, &id).await.state, TicketState::Waiting);
}
