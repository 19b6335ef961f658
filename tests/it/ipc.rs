//! The socket against clients that behave, and against those that do not.

use std::io::{BufRead, BufReader, ErrorKind as IoErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use p2p_comm::api::{Command, Done, Error, ErrorKind, Reply, Time};
use p2p_comm::engine::ReplyTo;
use p2p_comm::ipc::{CONNECTIONS_LIMIT, Client, Hello, IN_FLIGHT_LIMIT, REQUEST_LIMIT, Server};
use p2p_comm::proto::Millis;
use serde_json::{Value, json};

use crate::support::{Answer, FakeDaemon, PATIENCE, TestHome, eventually, idle, is_root};

/// Answers `status`, and keeps everybody waiting who waits.
fn script(command: &Command) -> Answer {
    match command {
        Command::Wait { .. } => Answer::Never,
        Command::Send { .. } => Done { at: Time(Millis(0)) }.into(),
        Command::End { .. } => {
            Answer::refused(Error::new(ErrorKind::NoActiveCall, "no call", "call somebody"))
        }
        _ => idle().into(),
    }
}

fn connect(home: &TestHome) -> UnixStream {
    let stream = UnixStream::connect(home.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn say(stream: &mut UnixStream, request: &Value) {
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
}

fn hear(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn wait() -> Value {
    json!({"consumer": "test", "timeout_s": 600.0})
}

fn hello() -> Hello {
    Hello { version: String::new(), pid: 0, home: String::new(), agent: crate::support::agent() }
}

/// Runs a test of [`Client`] in a runtime of its own.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() })
}

#[test]
fn a_client_asks_and_is_answered_by_type_or_by_error() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, script);
    block_on(async {
        let client = Client::connect(&home.socket()).await.unwrap();
        let hello = client.hello().await.unwrap();
        assert_eq!((hello.pid, hello.agent.id.as_str()), (std::process::id(), "alice"));
        assert_eq!(client.ask(Command::Status {}).await, Ok(Reply::Status(idle())));
        assert_eq!(client.ask_json("status", &json!({}), None).await.unwrap()["unread"], 0);
        let refused = client.ask(Command::End { call: None }).await.unwrap_err();
        assert_eq!((refused.kind, refused.hint.as_str()), (ErrorKind::NoActiveCall, "call somebody"));
    });
}

#[test]
fn requests_reach_the_engine_in_the_order_in_which_they_were_written() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    let texts: Vec<String> = (0..500).map(|number| format!("text {number}")).collect();
    for (id, text) in (0..).zip(&texts) {
        say(&mut stream, &request(id, "send", json!({"text": text})));
    }
    let mut lines = BufReader::new(stream);
    texts.iter().for_each(|_| assert!(hear(&mut lines)["result"].is_object()));
    let asked: Vec<String> = daemon
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter_map(
            |command| if let Command::Send { text, .. } = command { Some(text.clone()) } else { None },
        )
        .collect();
    assert_eq!(asked, texts);
}

#[test]
fn a_request_that_waits_does_not_hold_up_the_others() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    say(&mut stream, &request(1, "wait", wait()));
    say(&mut stream, &request(2, "status", json!({})));
    assert_eq!(hear(&mut BufReader::new(stream))["id"], 2);
}

#[test]
fn who_only_finished_writing_still_gets_the_replies() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    say(&mut stream, &request(1, "status", json!({})));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], 1);
}

#[test]
fn a_notification_is_carried_out_and_not_answered() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    say(&mut stream, &json!({"jsonrpc": "2.0", "method": "send", "params": {"text": "x"}}));
    say(&mut stream, &request(1, "status", json!({})));
    assert_eq!(hear(&mut BufReader::new(stream))["id"], 1);
    assert!(daemon.asked.lock().unwrap().iter().any(|command| matches!(command, Command::Send { .. })));
}

#[test]
fn nonsense_is_refused_line_by_line_and_the_connection_lives() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (line, code) in
        [("nonsense", -32700), (&*deep, -32700), ("[]", -32600), ("{\"jsonrpc\":\"2.0\",\"id\":1}", -32600)]
    {
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let reply = hear(&mut lines);
        assert_eq!(reply["error"]["code"], code, "{line:.40}");
        assert_eq!(reply["error"]["data"]["code"], "usage", "{line:.40}");
    }
    say(&mut stream, &request(9, "fly", json!({})));
    assert_eq!(hear(&mut lines)["error"]["code"], -32601);
    say(&mut stream, &request(9, "status", json!({"wings": 2})));
    assert_eq!(hear(&mut lines)["error"]["code"], -32602);
    say(&mut stream, &request(9, "status", json!({})));
    assert!(hear(&mut lines)["result"].is_object());
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_connection_closed() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    let piece = vec![b'x'; 1024 * 1024];
    // It may be closed before everything is written.
    let mut written = 0;
    while written <= REQUEST_LIMIT && stream.write_all(&piece).is_ok() {
        written += piece.len();
    }
    let mut lines = BufReader::new(stream);
    let mut reply = String::new();
    match lines.read_line(&mut reply) {
        Ok(_) => assert!(reply.contains("-32600"), "{reply}"),
        Err(error) => assert_eq!(error.kind(), IoErrorKind::ConnectionReset),
    }
    let mut others = connect(&home);
    say(&mut others, &request(1, "status", json!({})));
    assert!(hear(&mut BufReader::new(others))["result"].is_object());
}

#[test]
fn who_never_reads_is_held_back_and_others_are_served() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, script);
    let mut greedy = connect(&home);
    greedy.set_nonblocking(true).unwrap();
    let mut other = connect(&home);
    let mut replies = BufReader::new(other.try_clone().unwrap());
    let line = format!("{}\n", request(1, "send", json!({"text": "more"})));
    let greedily_asked = || {
        daemon.asked.lock().unwrap().iter().filter(|command| matches!(command, Command::Send { .. })).count()
    };
    let mut taken = 0;
    // Until no buffer takes more, and nothing of it is carried out any more while others are served.
    eventually("the flood to be held back", || match greedy.write(line.as_bytes()) {
        Ok(written) => {
            taken += written;
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), IoErrorKind::WouldBlock);
            let before = greedily_asked();
            for id in 0..20 {
                say(&mut other, &request(id, "status", json!({})));
                assert!(hear(&mut replies)["result"].is_object());
            }
            before == greedily_asked()
        }
    });
    assert!(taken < 16 * 1024 * 1024, "{taken} bytes were taken");
}

#[test]
fn beyond_the_requests_in_flight_further_ones_wait_for_a_place() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, script);
    let mut stream = connect(&home);
    for id in 0..=IN_FLIGHT_LIMIT as u64 {
        say(&mut stream, &request(id, "wait", wait()));
    }
    eventually("the first waits to be asked", || daemon.asked.lock().unwrap().len() == IN_FLIGHT_LIMIT);
    let mut others = connect(&home);
    say(&mut others, &request(1, "status", json!({})));
    assert!(hear(&mut BufReader::new(others))["result"].is_object());
    // The status of the other connection, and not the last wait of this one.
    assert_eq!(daemon.asked.lock().unwrap().len(), IN_FLIGHT_LIMIT + 1);
}

#[test]
fn of_what_reads_much_a_connection_is_given_one_at_a_time() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, |command| match command {
        Command::Calls { .. } => Answer::Never,
        other => script(other),
    });
    let mut greedy = connect(&home);
    for id in 0..10 {
        say(&mut greedy, &request(id, "calls", json!({"limit": 1000})));
    }
    let read = || {
        daemon.asked.lock().unwrap().iter().filter(|command| matches!(command, Command::Calls { .. })).count()
    };
    eventually("the first one to be asked", || read() == 1);
    let mut other = connect(&home);
    say(&mut other, &request(1, "status", json!({})));
    say(&mut other, &request(2, "calls", json!({"limit": 1})));
    assert_eq!(hear(&mut BufReader::new(other))["id"], 1);
    eventually("the other connection to have its own", || read() == 2);
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let home = TestHome::new();
    let _daemon = FakeDaemon::start(&home, script);
    let mut held: Vec<UnixStream> = Vec::new();
    for _ in 0..CONNECTIONS_LIMIT {
        let mut stream = connect(&home);
        say(&mut stream, &request(1, "hello", json!({})));
        hear(&mut BufReader::new(stream.try_clone().unwrap()));
        held.push(stream);
    }
    let refused = hear(&mut BufReader::new(connect(&home)));
    assert_eq!(refused["error"]["code"], -32600);
    held.pop();
    eventually("a place to be free", || {
        let mut stream = connect(&home);
        say(&mut stream, &request(1, "hello", json!({})));
        hear(&mut BufReader::new(stream))["result"].is_object()
    });
}

/// The folder keeps other users out; where somebody has opened it, this does. The name of the socket is abstract, so
/// that no folder is in the way.
#[test]
#[cfg(target_os = "linux")]
fn another_user_is_not_served_even_where_the_socket_is_open_to_all() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use rustix::process::Uid;
    use rustix::thread::set_thread_res_uid;

    if !is_root() {
        // Only root can be somebody else for a while.
        return;
    }
    let name = format!("p2p-comm test {}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let (handle, _asked, _unanswered) = crate::support::fake_engine(script);
    let server = Server::serve(listener, handle, hello()).unwrap();
    let nobody = Uid::from_raw(65_534);
    // What is said until the server hangs up, or until it has answered.
    let ask = |user: Option<Uid>| {
        let address = address.clone();
        let ask = move || {
            // Of this thread alone, which ends with it.
            set_thread_res_uid(None::<Uid>, user, None::<Uid>).unwrap();
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // It may have hung up already.
            let _ = stream.write_all(format!("{}\n", request(1, "status", json!({}))).as_bytes());
            let mut said = String::new();
            match BufReader::new(stream).read_line(&mut said) {
                Ok(_) => said,
                Err(error) if error.kind() == IoErrorKind::ConnectionReset => String::new(),
                Err(error) => panic!("{error}"),
            }
        };
        std::thread::spawn(ask).join().unwrap()
    };
    assert_eq!(ask(Some(nobody)), "", "another user was served");
    assert!(ask(None).contains("result"), "the user's own connections are served");
    runtime.block_on(server.close());
}

#[test]
fn a_wait_ends_with_its_client_and_with_its_future() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = TestHome::new();
    let mut lock = home.home().lock().unwrap().unwrap();
    let listener = lock.bind().unwrap();
    runtime.block_on(async {
        let (handle, _asked, mut unanswered) = crate::support::fake_engine(script);
        let _server = Server::serve(listener, handle, hello()).unwrap();
        let wait = || Command::Wait {
            consumer: None,
            after: Some(0),
            call: None,
            kinds: Vec::new(),
            ahead: 0,
            timeout_s: 600.0,
        };
        let client = Client::connect(&home.socket()).await.unwrap();
        let gives_up = tokio::time::timeout(Duration::from_millis(20), client.ask(wait()));
        assert!(gives_up.await.is_err());
        let closed = async |reply: Box<dyn ReplyTo>| {
            while !reply.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        let reply = unanswered.recv().await.unwrap();
        tokio::time::timeout(PATIENCE, closed(reply)).await.expect("the dropped future's wait was given up");

        let asking = tokio::spawn(async move { client.ask(wait()).await });
        let reply = unanswered.recv().await.unwrap();
        asking.abort();
        tokio::time::timeout(PATIENCE, closed(reply)).await.expect("the gone client's wait was given up");
    });
}

#[test]
fn a_client_that_waits_is_told_when_the_daemon_stops_and_knows_when_it_is_lost() {
    let home = TestHome::new();
    let daemon = FakeDaemon::start(&home, script);
    let socket = home.socket();
    let waits = std::thread::spawn(move || {
        block_on(async move {
            let client = Client::connect(&socket).await.unwrap();
            let wait = Command::Wait {
                consumer: None,
                after: Some(0),
                call: None,
                kinds: Vec::new(),
                ahead: 0,
                timeout_s: 600.0,
            };
            let told = client.try_ask(wait.clone()).await;
            (told, client.try_ask(wait).await)
        })
    });
    eventually("the wait to be asked", || !daemon.asked.lock().unwrap().is_empty());
    drop(daemon);
    let (told, lost) = waits.join().unwrap();
    assert_eq!(told.unwrap().unwrap_err().kind, ErrorKind::DaemonUnreachable);
    assert!(lost.is_err() || lost.unwrap().is_err());
    assert!(!home.socket().exists());
}
