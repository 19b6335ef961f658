//! The command line as its readers see it: each verb's success in both forms, and a failure.
//!
//! The program is the real one; behind its socket is an engine that answers from [`sample`]. What a peer wrote there is
//! hostile on purpose: no snapshot may hold a control character or an unescaped mark.

use std::io::Write;
use std::process::Stdio;

use p2p_comm::api::{
    AgentList, CallReply, Calls, Command, Contacts, Done, EndReason, EndReply, Error, ErrorKind, EventKind,
    Inbox, MessageReply, MessageState, Messages, Metric, MetricKind, Metrics, Questions, Sample, TicketReply,
    TicketState, Time, Transcript, WaitReply,
};
use p2p_comm::daemon::VERSION;
use p2p_comm::proto::Millis;
use p2p_comm::proto::text::is_deceptive;

use crate::sample;
use crate::support::{Answer, FakeDaemon, Outcome, TestHome, idle, outcome};

/// An engine in the middle of a call with Bob.
fn in_a_call(command: &Command) -> Answer {
    use sample::{agent, at, call, contact, event, file, message, relay, sent, ticket, ways};
    match command {
        Command::Status {} => {
            let mut status = idle();
            status.relays = vec![relay()];
            status.calls = vec![call()];
            status.unread = 1;
            status.owner = ways();
            status.into()
        }
        Command::List { .. } => AgentList { agents: vec![agent()] }.into(),
        Command::Call { .. } | Command::Answer { .. } => {
            CallReply { call: call(), already: false, timeout: false }.into()
        }
        Command::AwaitCall { .. } => CallReply { call: call(), already: false, timeout: true }.into(),
        Command::Send { text, .. } => sent(text).into(),
        Command::SendFile { .. } | Command::CancelFile { .. } => file().into(),
        Command::AwaitMessage { .. } => MessageReply { message: sent("late"), timeout: true }.into(),
        Command::Escalate { .. }
        | Command::AwaitTicket { .. }
        | Command::AwaitWays { .. }
        | Command::OwnerTest {} => TicketReply { ticket: ticket(), timeout: false }.into(),
        Command::OwnerReply { .. } => panic!("only from a terminal"),
        Command::End { .. } => {
            let mut ended = call();
            ended.state = p2p_comm::api::CallState::Ended;
            ended.end_reason = Some(EndReason::Completed);
            ended.ended_at = Some(at(9));
            EndReply { call: ended, already: false, transcript: transcript() }.into()
        }
        Command::Inbox {} => Inbox {
            ringing: vec![call()],
            unread: vec![message(), file()],
            missed: Vec::new(),
            answers: vec![ticket()],
            queue: Vec::new(),
            mail: vec![message()],
            questions: vec![ticket()],
        }
        .into(),
        Command::Wait { .. } => WaitReply {
            cursor: 7,
            event: Some(event(EventKind::MessageReceived)),
            ahead: vec![],
            timeout: false,
        }
        .into(),
        Command::Untaken { .. } => {
            WaitReply { cursor: 7, event: Some(event(EventKind::CallRinging)), ahead: vec![], timeout: false }
                .into()
        }
        Command::Metrics {} => metrics().into(),
        Command::Commit { .. } | Command::MarkRead { .. } | Command::Pass { .. } | Command::Reload {} => {
            Done { at: at(0) }.into()
        }
        Command::Messages { .. } => Messages { cursor: 7, messages: vec![message(), sent("hello")] }.into(),
        Command::Transcript { .. } => transcript().into(),
        Command::Calls { .. } => Calls { calls: vec![call()] }.into(),
        Command::Questions {} => Questions { questions: vec![ticket()] }.into(),
        Command::Contacts {} | Command::ContactEdit(_) => Contacts { contacts: vec![contact()] }.into(),
    }
}

fn metrics() -> Metrics {
    let sample = |direction: &str, value| Sample {
        labels: [("direction".to_owned(), direction.to_owned())].into(),
        value,
    };
    Metrics {
        metrics: vec![Metric {
            name: "p2p_comm_messages_total".into(),
            help: "Messages.".into(),
            kind: MetricKind::Counter,
            samples: vec![sample("in", 3.0), sample("out", 4.0)],
        }],
    }
}

fn transcript() -> Transcript {
    Transcript {
        call: sample::call().call,
        caller: "bob".into(),
        callee: "alice".into(),
        topic: sample::HOSTILE.into(),
        started_at: sample::at(0),
        ended_at: Some(sample::at(9)),
        duration_s: 9.0,
        message_count: 3,
        messages: vec![sample::message(), sample::sent("hello\nin two lines"), sample::file()],
    }
}

/// An engine that refuses everything.
fn refusing(command: &Command) -> Answer {
    match command {
        Command::Wait { .. } | Command::Untaken { .. } => {
            WaitReply { cursor: 6, event: None, ahead: vec![], timeout: true }.into()
        }
        _ => Answer::refused(Error::new(
            ErrorKind::NoActiveCall,
            "no call is up",
            "place one: p2p-comm call AGENT",
        )),
    }
}

/// What a reader sees of one command.
pub fn seen(home: &TestHome, words: &[&str]) -> String {
    let Outcome { exit, stdout, stderr } = home.run(words);
    for text in [&stdout, &stderr] {
        let raw = text.chars().find(|character| is_deceptive(*character) && *character != '\n');
        assert_eq!(raw, None, "{words:?} let it through");
    }
    if words.contains(&"--json") {
        assert_eq!(stdout.trim_end().lines().count(), 1, "{words:?}: {stdout}");
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&stdout).unwrap();
    }
    let place = home.path().canonicalize().unwrap().display().to_string();
    let talk = if stderr.is_empty() { String::new() } else { format!("[stderr]\n{stderr}") };
    let words =
        words.iter().map(|word| if word.contains(' ') { format!("{word:?}") } else { (*word).to_owned() });
    format!("$ p2p-comm {}\n{stdout}{talk}[exit {exit}]\n", words.collect::<Vec<_>>().join(" "))
        .replace(&place, "[home]")
        .lines()
        .map(|line| without_room(line) + "\n")
        .collect::<String>()
        .replace(&format!("daemon {VERSION},"), "daemon [version],")
        .replace(&format!("version {VERSION},"), "version [version],")
        .replace(&format!("\"version\":\"{VERSION}\""), "\"version\":\"[version]\"")
        .replace(&format!("pid {}", std::process::id()), "pid [pid]")
        .replace(&format!("\"pid\":{}", std::process::id()), "\"pid\":\"[pid]\"")
}

/// A line without how much room the disk of this machine has.
fn without_room(line: &str) -> String {
    let Some((before, after)) = line.split_once(" MiB free") else { return line.to_owned() };
    let figure = before.trim_end_matches(|c: char| c.is_ascii_digit());
    format!("{figure}[room] MiB free{after}")
}

/// A verb's success as text and as JSON, then its failure.
fn verb(words: &[&str]) -> String {
    let home = TestHome::new();
    let with_json = [words, &["--json"]].concat();
    let happy = FakeDaemon::start(&home, in_a_call);
    let mut text = seen(&home, words) + "\n" + &seen(&home, &with_json);
    drop(happy);
    let _sad = FakeDaemon::start(&home, refusing);
    text.push('\n');
    text + &seen(&home, &with_json)
}

macro_rules! verbs {
    ($($name:ident: $($word:literal)+;)+) => {
        $(
            #[test]
            fn $name() {
                insta::assert_snapshot!(verb(&[$($word),+]));
            }
        )+
    };
}

verbs! {
    status_shows_who_where_and_what: "status";
    list_shows_who_is_online: "list" "--capability" "coding" "--limit" "5";
    call_rings: "call" "bob" "API design";
    answer_accepts: "answer" "accept";
    answer_rejects_with_a_reason: "answer" "reject" "I'm busy right now";
    send_says_something: "send" "Hello, I have a question";
    sendfile_cancels: "sendfile" "--cancel" "00112233445566778899aabbccddeeff";
    sendfile_sends_bytes: "sendfile" "report.json" "eyJkYXRhIjogdHJ1ZX0=";
    escalate_asks_the_owner: "escalate" "May I?" "--options" "yes,no";
    end_prints_the_transcript: "end";
    inbox_shows_what_waits: "inbox";
    metrics_are_as_prometheus_reads_them: "metrics";
    wait_prints_an_event_or_the_cursor: "wait" "--timeout" "1";
    what_nobody_has_taken_is_shown: "wait" "--untaken" "--timeout" "1";
    hooks_are_listed: "on" "list";
    a_hook_needs_a_program: "on" "call.ringing";
    a_hook_that_is_not_there: "on" "remove" "00000000";
    messages_shows_what_was_said: "messages";
    transcript_shows_the_whole_call: "transcript" "cacacacacacacaca";
    transcript_is_written_in_markdown: "transcript" "--format" "md";
    transcript_is_written_as_a_page: "transcript" "--format" "html";
    transcript_is_written_one_message_a_line: "transcript" "--format" "jsonl";
    calls_are_listed: "calls";
    contacts_are_listed: "contacts" "list";
    contacts_are_changed: "contacts" "add" "bobby" "npub1bob";
    identity_is_shown: "identity" "show";
    owner_is_tested: "owner" "test";
    owner_replies_only_from_a_terminal: "owner" "reply" "71717171" "yes";
    owner_channels_are_shown: "owner" "show";
    owner_channels_are_set: "owner" "set" "nostr:npub1owner" "telegram:123";
    config_is_shown: "config" "show";
    config_is_changed: "config" "set" "name" "Alice";
    config_of_one_key: "config" "get" "max_calls";
    a_config_key_that_does_not_exist: "config" "get" "colour";
    an_id_that_is_none: "send" "hello" "--call" "no-such-call";
    a_daemon_is_there: "daemon" "status";
    doctor_says_what_is_not_well: "doctor";
}

#[test]
fn wrong_words_are_explained_in_both_forms() {
    let home = TestHome::new();
    let lines: [&[&str]; 9] = [
        &[],
        &["no-such-verb"],
        &["call"],
        &["answer", "perhaps"],
        &["answer", "accept", "gladly"],
        &["sendfile", "only-a-name"],
        &["wait", "--for", "no.such.kind"],
        &["wait", "--as", "me", "--after", "0"],
        &["send", "x", "--wait=soon"],
    ];
    let mut text = String::new();
    for words in lines {
        text += &seen(&home, words);
        text += &seen(&home, &[&["--json"], words].concat());
    }
    insta::assert_snapshot!(text);
    assert!(!home.path().join("p2p-comm").exists(), "wrong words make no home");
}

#[test]
fn the_help_is_one_page_and_names_every_verb() {
    let home = TestHome::new();
    let help = home.run(&["--help"]);
    assert_eq!((help.exit, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.lines().count() <= 60);
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 120));
    let script = home.run(&["completions", "fish", "--json"]).json();
    let verbs: Vec<String> = script["script"]
        .as_str()
        .unwrap()
        .lines()
        .filter_map(|line| {
            Some(line.strip_prefix("complete -c p2p-comm -n '__fish_use_subcommand' -a ")?.to_owned())
        })
        .collect();
    assert!(verbs.len() > 15);
    for verb in verbs {
        assert!(help.stdout.contains(&format!("p2p-comm {verb}")), "the help does not name {verb}");
        let own = home.run(&[&verb, "--help"]);
        assert!(own.stdout.contains("Example: p2p-comm "), "{verb} has no example");
    }
    assert_eq!(home.run(&["--version", "--json"]).json()["version"], VERSION);
}

#[test]
fn completions_are_scripts_that_bash_understands() {
    let home = TestHome::new();
    let script = home.run(&["completions", "bash"]).stdout;
    let mut bash = std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    assert!(script.contains("\"answer\") words=\"accept reject --call"), "{script}");
}

#[test]
fn json_is_asked_for_anywhere_and_by_the_environment() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, in_a_call);
    for words in [&["--json", "status"][..], &["status", "--json"], &["--json", "status", "--json"]] {
        assert_eq!(home.run(words).json()["unread"], 1);
    }
    let by_environment = home.process(&["status"]).env("P2P_COMM_OUTPUT", "json").output().unwrap();
    assert_eq!(outcome(by_environment).json()["unread"], 1);
}

#[test]
fn words_flags_and_standard_input_make_the_text_that_was_meant() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, in_a_call);
    for (words, text) in [
        (&["two", "words"][..], "two words"),
        (&["-x", "marks", "--the=spot"], "-x marks --the=spot"),
        (&["a", "--call", "cacacacacacacaca", "b"], "a b"),
        (&["--", "--json", "-h"], "--json -h"),
    ] {
        let sent = home.run(&[&["--json", "send"], words].concat());
        assert_eq!(sent.json()["text"], text, "{words:?}");
    }
    let mut piped = home.process(&["send", "-", "--json"]).stdin(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"from a pipe\nin two lines\n").unwrap();
    assert_eq!(outcome(piped.wait_with_output().unwrap()).json()["text"], "from a pipe\nin two lines");
    assert_eq!(home.run(&["send", " ", "--json"]).error_code(), "invalid-value");
}

/// `call --wait`, for a call that turns out like this.
fn waited_call(reason: Option<EndReason>) -> (Outcome, Vec<Command>) {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, move |command| {
        let mut call = sample::call();
        call.state = match (command, reason) {
            (Command::AwaitCall { .. }, Some(_)) => p2p_comm::api::CallState::Ended,
            (Command::AwaitCall { .. }, None) => p2p_comm::api::CallState::Connected,
            _ => p2p_comm::api::CallState::Ringing,
        };
        call.end_reason = reason;
        call.reason = Some("not before noon".into());
        match command {
            Command::Wait { .. } => WaitReply {
                cursor: 7,
                event: Some(sample::event(EventKind::CallConnected)),
                ahead: vec![],
                timeout: false,
            }
            .into(),
            Command::Commit { .. } => Done { at: Time(Millis(0)) }.into(),
            _ => CallReply { call, already: false, timeout: false }.into(),
        }
    });
    let outcome = home.run(&["call", "bob", "--wait=30", "--json"]);
    let asked = daemon.asked.lock().unwrap().clone();
    (outcome, asked)
}

#[test]
fn call_wait_has_a_verdict_for_every_outcome() {
    assert_eq!(waited_call(None).0.exit, 0);
    for (reason, exit, code) in [
        (EndReason::Rejected, 1, "rejected"),
        (EndReason::Busy, 1, "peer-busy"),
        (EndReason::NoAnswer, 1, "no-answer"),
        (EndReason::Cancelled, 1, "call-ended"),
        (EndReason::Lost, 1, "call-ended"),
        (EndReason::Failed, 3, "relays-unreachable"),
    ] {
        let (outcome, _) = waited_call(Some(reason));
        assert_eq!((outcome.exit, outcome.error_code().as_str()), (exit, code), "{outcome:?}");
        assert!(outcome.stdout.contains("not before noon"), "{outcome:?}");
    }
    assert_eq!(waited_call(Some(EndReason::Completed)).0.exit, 0);
}

#[test]
fn the_outcome_that_call_wait_showed_is_taken_from_the_journal() {
    let (_, asked) = waited_call(None);
    assert!(asked.contains(&Command::Commit { consumer: Some("cli".into()), cursor: 7 }), "{asked:?}");
}

#[test]
fn time_up_is_exit_124_with_the_normal_object() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, |command| match command {
        Command::AwaitCall { .. } | Command::Call { .. } => {
            let mut call = sample::call();
            call.state = p2p_comm::api::CallState::Ringing;
            CallReply { call, already: false, timeout: true }.into()
        }
        Command::AwaitTicket { .. } => TicketReply { ticket: sample::ticket(), timeout: true }.into(),
        other => in_a_call(other),
    });
    for words in [
        &["call", "bob", "--wait=0"][..],
        &["send", "hello", "--wait=relayed", "--timeout", "0"],
        &["escalate", "May I?", "--wait=0"],
    ] {
        let outcome = home.run(&[words, &["--json"]].concat());
        assert_eq!(
            (outcome.exit, &outcome.json()["timeout"]),
            (124, &serde_json::json!(true)),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_message_or_a_question_that_failed_is_exit_1() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, |command| match command {
        Command::AwaitMessage { .. } => {
            let mut message = sample::sent("hello");
            message.state = MessageState::Failed;
            MessageReply { message, timeout: false }.into()
        }
        Command::AwaitTicket { .. } => {
            let mut ticket = sample::ticket();
            ticket.state = TicketState::Expired;
            TicketReply { ticket, timeout: false }.into()
        }
        other => in_a_call(other),
    });
    assert_eq!(home.run(&["send", "hello", "--wait=relayed"]).exit, 1);
    assert_eq!(home.run(&["escalate", "May I?", "--wait=9"]).exit, 1);
}

#[test]
fn what_was_printed_is_committed_and_what_was_not_is_not() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, in_a_call);
    let commits = || {
        let asked = daemon.asked.lock().unwrap();
        asked
            .iter()
            .filter(|command| matches!(command, Command::Commit { .. } | Command::MarkRead { .. }))
            .cloned()
            .collect::<Vec<_>>()
    };
    // Nobody reads: the other end of the pipe is closed before anything is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut unread = home.process(&["wait", "--json"]).stdout(writer).spawn().unwrap();
    assert_eq!(unread.wait().unwrap().code(), Some(141));
    assert_eq!(commits(), []);
    for looking in [&["inbox"][..], &["messages"], &["transcript"]] {
        home.run(looking);
    }
    assert_eq!(commits(), []);
    home.run(&["wait"]);
    assert_eq!(commits(), [Command::Commit { consumer: Some("cli".into()), cursor: 7 }]);
    home.run(&["wait", "--after", "0"]);
    assert_eq!(commits()[1], Command::Commit { consumer: None, cursor: 7 });
    home.run(&["messages", "--unread"]);
    assert!(matches!(&commits()[2], Command::MarkRead { messages } if messages.len() == 2));
}

#[test]
fn a_variable_that_differs_from_the_file_is_pointed_out_on_stderr() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, in_a_call);
    home.run(&["config", "set", "name", "Alice"]);
    let warned = home.process(&["status", "--json"]).env("P2P_AGENT_NAME", "Somebody").output().unwrap();
    let warned = outcome(warned);
    assert_eq!(warned.exit, 0);
    assert!(warned.stderr.contains("P2P_AGENT_NAME differs"), "{warned:?}");
    assert_eq!(warned.json()["unread"], 1);
    assert_eq!(home.run(&["status"]).stderr, "");
}

#[test]
fn ctrl_c_ends_a_wait_with_130_and_takes_nothing() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, |command| match command {
        Command::Wait { .. } => Answer::Never,
        other => in_a_call(other),
    });
    let mut waiting = home.process(&["wait", "--json"]).spawn().unwrap();
    crate::support::eventually("the wait to begin", || !daemon.asked.lock().unwrap().is_empty());
    let pid = rustix::process::Pid::from_raw(waiting.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
}

#[test]
fn the_documents_name_every_error_code_event_kind_and_setting() {
    let document = include_str!("../../docs/cli.md");
    let codes = ErrorKind::ALL.iter().map(|kind| kind.code());
    let settings = p2p_comm::home::settings::KEYS.iter().map(|key| key.name);
    for word in codes.chain(settings) {
        assert!(document.contains(&format!("`{word}`")), "docs/cli.md does not name {word}");
    }
    for kind in EventKind::ALL {
        assert!(document.contains(kind.word()), "docs/cli.md does not name {}", kind.word());
    }
}
