//! Sessions over relays: honest ones and scripted ones.

use nostr_relay_builder::LocalRelay;
use nostr_relay_builder::builder::{RateLimit, RelayBuilder, RelayBuilderNip42};
use nostr_sdk::nips::nip44;
use nostr_sdk::{Event, JsonUtil};
use serde_json::{Value, json};

use super::server::{Connection, Server};
use super::*;
use crate::proto::Hex;
use crate::proto::v2::frame;
use crate::proto::v2::signal::{self, Answer, Body, Offer, SharedCallId, Signal};
use crate::transport::v2::*;

const CALL: SharedCallId = Hex([7; 16]);

/// A session pool with the receiving end of its channel.
struct Sessions {
    pool: SessionPool,
    inbound: mpsc::Receiver<Inbound>,
    seen: Vec<Inbound>,
}

impl Sessions {
    fn start(relays: &[&str]) -> Self {
        Self::with(relays, quick())
    }

    fn with(relays: &[&str], tuning: Tuning) -> Self {
        let (sender, inbound) = mpsc::channel(1_024);
        let relays = relays.iter().map(|url| (*url).to_owned()).collect();
        let pool = SessionPool::start(SessionOptions { relays, inbound: sender, tuning }).unwrap();
        Self { pool, inbound, seen: Vec::new() }
    }

    /// Listens for a key, and waits until so many relays hear it.
    async fn listen(&mut self, key: &SessionKey, urls: &[&str]) -> Vec<RelayId> {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        let relays = self.pool.listen(&key.public_key(), &urls).unwrap();
        while self.pool.hearing(&key.public_key()) < relays.len() {
            self.until(|inbound| {
                matches!(inbound, Inbound::Synced { class: Class::Session, .. }).then_some(())
            })
            .await;
        }
        relays
    }

    /// Until so many relays carry live events.
    async fn until_proven(&self, count: usize) {
        soon(async {
            while self.pool.status().iter().filter(|(_, link)| link.echo_ms.is_some()).count() < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn until<T>(&mut self, mut pick: impl FnMut(Inbound) -> Option<T>) -> T {
        loop {
            let inbound = soon(self.inbound.recv()).await.expect("the pool is gone");
            self.seen.push(inbound.clone());
            if let Some(picked) = pick(inbound) {
                return picked;
            }
        }
    }

    async fn until_frame(&mut self) -> SessionEvent {
        self.until(|inbound| match inbound {
            Inbound::Frame { event, .. } => Some(event),
            _ => None,
        })
        .await
    }

    async fn until_ephemeral(&mut self) -> Wrap {
        self.until(|inbound| match inbound {
            Inbound::Ephemeral { wrap, .. } => Some(wrap),
            _ => None,
        })
        .await
    }
}

async fn relay(configure: impl FnOnce(RelayBuilder) -> RelayBuilder) -> (LocalRelay, String) {
    let builder =
        RelayBuilder::default().rate_limit(RateLimit { max_reqs: 500, notes_per_minute: 1_000_000 });
    let relay = LocalRelay::new(configure(builder));
    relay.run().await.unwrap();
    let url = relay.url().await.to_string();
    (relay, url)
}

fn rumor(signal: &Signal) -> Rumor {
    Rumor { kind: signal::KIND, created_at: now(), tags: Vec::new(), content: signal.to_json() }
}

fn padded(text: &str) -> Vec<u8> {
    frame::pad(text.as_bytes()).unwrap()
}

/// A whole call's handshake and a message each way, over two relays, one of which wants to know everybody.
#[tokio::test]
async fn a_call_is_set_up_and_talked_over_two_relays_and_leaves_nothing_readable_behind() {
    let (_plain, one) = relay(|builder| builder).await;
    let (_strict, two) = relay(|builder| builder.nip42(RelayBuilderNip42::default())).await;
    let urls = [one.as_str(), two.as_str()];
    let (alice_id, mut bob) = (Identity::generate(), Agent::start(&one, quick()));
    let (mut alice, mut bob_sessions) = (Sessions::start(&urls), Sessions::start(&urls));
    bob.until_synced(Class::Wrap).await;
    let mut recorded: Vec<Signed> = Vec::new();

    // The caller listens before it calls.
    let key = SessionKey::generate();
    let relays = alice.listen(&key, &urls).await;
    assert_eq!(relays.len(), 2);
    let mut offer = Offer {
        agent_id: "alice-the-agent".into(),
        name: "Alice".into(),
        topic: "what about lunch?".into(),
        expires: now() + 60,
        key: key.public_key(),
        noise: [0; signal::FIRST_MESSAGE],
        versions: vec![2],
        relays: relays.iter().map(ToString::to_string).collect(),
        inbox: vec![],
        traceparent: None,
    };
    let (caller, callee) = (alice_id.public_key(), bob.key());
    let (initiator, first) = Initiator::start(key, &Terms::of(&offer, &CALL, 0, &caller, &callee)).unwrap();
    offer.noise = first;
    let invite = rumor(&Signal { call: CALL, generation: 0, body: Body::Invite(offer) });
    let wrap = seal_wrap(&alice_id, &callee, &invite, &WrapOptions::at(WrapKind::Stored, now())).unwrap();
    recorded.push(wrap.clone());
    assert_eq!(alice.pool.publish(wrap.clone(), &relays[..1]), []);
    let published = alice
        .until(|inbound| match inbound {
            Inbound::Published(published) => Some((published.id, published.outcome)),
            _ => None,
        })
        .await;
    assert_eq!(published, (wrap.id, Outcome::Accepted));

    // The callee takes the call.
    let wrap = bob
        .until(|inbound| match inbound {
            Inbound::Wrap { wrap, .. } => Some(wrap),
            _ => None,
        })
        .await;
    let opened = open_wrap(&bob.identity, &wrap, 0).unwrap();
    assert_eq!((opened.from, opened.rumor.kind), (caller, signal::KIND));
    let Body::Invite(offer) = Signal::parse(&opened.rumor.content).unwrap().body else { panic!() };
    let terms = Terms::of(&offer, &CALL, 0, &opened.from, &callee);
    let response = handshake::respond(SessionKey::generate(), &terms, &offer.noise).unwrap();
    let mut theirs = response.session;
    let chosen: Vec<&str> = offer.relays.iter().map(String::as_str).collect();
    let chosen_ids = bob_sessions.listen(theirs.key(), &chosen).await;
    let accept = Signal {
        call: CALL,
        generation: 0,
        body: Body::Accept(Answer {
            agent_id: "bob-the-agent".into(),
            name: String::new(),
            key: theirs.key().public_key(),
            noise: response.message,
            relays: offer.relays.clone(),
            invite: opened.id,
            hash: response.hash,
            replaces: None,
            inbox: vec![],
        }),
    };
    let ephemeral = WrapOptions::at(WrapKind::Ephemeral, now());
    let answer = seal_wrap(&bob.identity, &offer.key, &rumor(&accept), &ephemeral).unwrap();
    recorded.push(answer.clone());
    assert_eq!(bob_sessions.pool.send(answer, &chosen_ids), 2);

    // The caller learns it.
    let wrap = alice.until_ephemeral().await;
    let opened = initiator.key().open_wrap(&wrap).unwrap();
    assert_eq!(opened.from, callee);
    let Body::Accept(answer) = Signal::parse(&opened.rumor.content).unwrap().body else { panic!() };
    assert_eq!(answer.invite, invite.id(&caller));
    let (mut ours, early) = initiator.finish(&answer.key, &answer.noise, &answer.hash).unwrap();
    assert!(early.is_empty());

    // They talk; a frame goes over both relays and comes once.
    for number in 0..5 {
        let text = format!("hello {number}");
        let sealed = ours.seal(0, number, &padded(&text), now()).unwrap();
        recorded.push(sealed.clone());
        assert_eq!(alice.pool.send(sealed, &relays), 2);
        let event = bob_sessions.until_frame().await;
        let read = theirs.read(&event).unwrap();
        assert_eq!(read.number, number);
        assert_eq!(theirs.open(0, &read).unwrap(), padded(&text));
        assert!(matches!(ours.read(&event), Err(SessionError::Stranger)), "not to us");
    }
    let sealed = theirs.seal(1, 0, &padded("bye"), now()).unwrap();
    recorded.push(sealed.clone());
    bob_sessions.pool.send(sealed, &chosen_ids);
    let event = alice.until_frame().await;
    let read = ours.read(&event).unwrap();
    assert_eq!(ours.open(1, &read).unwrap(), padded("bye"));
    let frames = bob_sessions.seen.iter().filter(|inbound| matches!(inbound, Inbound::Frame { .. })).count();
    assert_eq!(frames, 5, "each frame once");

    // The relays' record, and both identities' keys, after the call.
    drop((ours, theirs));
    for signed in &recorded[1..] {
        assert!(nobody_reads(&[&alice_id, &bob.identity], signed, &recorded), "{}", signed.json);
    }
    // None of these is base64 by chance.
    for text in ["hello 0", "about lunch", "alice-the", "bob-the", &caller.to_string(), &callee.to_string()] {
        assert!(recorded[1..].iter().all(|signed| !signed.json.contains(text)), "{text}");
    }
}

/// Whether no identity can decrypt an event's content, with any key that appears in the record or its own.
fn nobody_reads(identities: &[&Identity], signed: &Signed, record: &[Signed]) -> bool {
    let event = Event::from_json(&signed.json).unwrap();
    let all: Vec<Event> = record.iter().map(|signed| Event::from_json(&signed.json).unwrap()).collect();
    let mut keys: Vec<_> = all.iter().map(|event| event.pubkey).collect();
    keys.extend(all.iter().flat_map(|event| event.tags.public_keys().copied()));
    keys.extend(identities.iter().map(|identity| identity.keys().public_key()));
    let payload = event.content.strip_prefix(frame::PREFIX).unwrap_or(&event.content);
    identities.iter().all(|identity| {
        keys.iter().all(|key| nip44::decrypt(identity.keys().secret_key(), key, payload).is_err())
    })
}

#[tokio::test]
async fn a_list_of_inbox_relays_is_published_and_found_by_key() {
    let (_relay, url) = relay(|builder| builder).await;
    let (mut alice, bob) = (Agent::start(&url, quick()), Identity::generate());
    let mut sessions = Sessions::start(&[&url]);
    let nobody = SessionKey::generate();
    sessions.listen(&nobody, &[&url]).await;
    let inbox = ["wss://one.example", "wss://two.example"].map(|url| RelayId::parse(url).unwrap());
    for (age, relays) in [(60, &inbox[..1]), (0, &inbox[..])] {
        alice.pool.publish(inbox::sign(&alice.identity, relays, now() - age).unwrap());
        assert_eq!(alice.until_published().await.1, Outcome::Accepted);
    }
    for (key, expected) in [(alice.key(), Some(2)), (bob.public_key(), None)] {
        let token = sessions.pool.look_up(key);
        let found = sessions.until(|inbound| match inbound {
            Inbound::Whereabouts { token, key, found, answered, asked } => {
                Some((token, key, found.inbox.map(|list| list.relays.len()), answered, asked))
            }
            _ => None,
        });
        assert_eq!(found.await, (token, key, expected, 1, 1));
    }
}

/// The next REQ for session keys: its id, and the keys beside the one of the echo.
async fn session_request(connection: &mut Connection) -> (String, Value) {
    let (id, filter) = connection.request().await;
    assert_eq!(filter["kinds"], json!([21_059]));
    let mut keys = filter["#p"].as_array().unwrap().clone();
    keys.retain(|key| *key != connection.echo.1.as_str());
    (id, keys.into())
}

#[tokio::test]
async fn one_request_names_the_keys_of_the_moment_and_is_never_interrupted() {
    let server = Server::start().await;
    let mut sessions = Sessions::start(&[&server.url]);
    let mut connection = server.accept_sessions().await;
    let (first, second, peer) = (SessionKey::generate(), SessionKey::generate(), Identity::generate());
    let urls = [server.url.clone()];
    sessions.pool.listen(&first.public_key(), &urls).unwrap();
    let (one, keys) = session_request(&mut connection).await;
    assert_eq!(keys, json!([first.public_key()]));
    assert_eq!(sessions.pool.hearing(&first.public_key()), 0, "the relay has not answered");
    connection.end_of_stored(&one).await;
    sessions.until(|inbound| matches!(inbound, Inbound::Synced { .. }).then_some(())).await;
    assert_eq!(sessions.pool.hearing(&first.public_key()), 1);

    sessions.pool.listen(&second.public_key(), &urls).unwrap();
    let (two, keys) = session_request(&mut connection).await;
    let mut both = [first.public_key(), second.public_key()];
    both.sort();
    assert_eq!(keys, json!(both));
    assert_eq!(connection.next().await, json!(["CLOSE", one]), "after the new one");
    // What was on its way under the old one.
    let to_first = |content: &str| {
        let key = nostr_sdk::PublicKey::from_byte_array(first.public_key().0);
        let tags = vec![nostr_sdk::Tag::public_key(key)];
        Signed::try_from(peer.sign(21_059, content.into(), tags, now()).unwrap()).unwrap()
    };
    let frame = to_first("#p2p1.AAAA");
    connection.event(&one, &frame).await;
    assert_eq!(sessions.until_frame().await.id, frame.id);
    connection.event(&two, &frame).await;
    let wrap = to_first("not a frame");
    connection.event(&two, &wrap).await;
    assert_eq!(sessions.until_ephemeral().await.id, wrap.id, "the frame did not come twice");

    sessions.pool.forget(&first.public_key());
    let (three, keys) = session_request(&mut connection).await;
    assert_eq!(keys, json!([second.public_key()]));
    connection.next().await;
    sessions.pool.forget(&second.public_key());
    let (_, keys) = session_request(&mut connection).await;
    assert_eq!(keys, json!([]), "nobody is listened for");
    assert_eq!(connection.next().await, json!(["CLOSE", three]));
}

#[tokio::test]
async fn who_asks_learns_a_key_that_is_nobodys() {
    let server = Server::start().await;
    let sessions = Sessions::start(&[&server.url]);
    let key = SessionKey::generate();
    let mut connection = server.accept_sessions().await;
    sessions.pool.listen(&key.public_key(), std::slice::from_ref(&server.url)).unwrap();
    let (id, _) = session_request(&mut connection).await;
    connection.send(json!(["AUTH", "challenge"])).await;
    connection.send(json!(["CLOSED", id, "auth-required: who are you?"])).await;
    let auth = connection.authentication().await;
    auth.verify().unwrap();
    assert_ne!(auth.pubkey.to_bytes(), key.public_key().0);
    connection.ok(&auth, true, "").await;
    session_request(&mut connection).await;
}

fn frames(session_key: &Identity, count: usize) -> Vec<Signed> {
    let frame = |n| Signed::try_from(session_key.sign(21_059, format!("#p2p1.{n}"), vec![], now()).unwrap());
    (0..count).map(|n| frame(n).unwrap()).collect()
}

#[tokio::test]
async fn frames_wait_for_no_ok_and_go_to_the_relays_that_take_them() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let urls: Vec<_> = servers.iter().map(|server| server.url.clone()).collect();
    let sessions = Sessions::start(&urls.iter().map(String::as_str).collect::<Vec<_>>());
    let relays = sessions.pool.ensure(&urls);
    let mut connections = Vec::new();
    for server in &servers {
        connections.push(server.accept_sessions().await);
    }
    sessions.until_proven(3).await;
    let author = Identity::generate();
    let all = frames(&author, 20);
    for frame in &all[..10] {
        assert_eq!(sessions.pool.send(frame.clone(), &relays), 2);
    }
    let mut turns = [0; 2];
    for frame in &all[..10] {
        assert_eq!(connections[0].published().await.1, frame.json);
    }
    for (connection, turns) in connections[1..].iter_mut().zip(&mut turns) {
        for _ in 0..5 {
            let (event, _) = connection.published().await;
            *turns += usize::from(all[..10].iter().any(|frame| frame.id.0 == event.id.to_bytes()));
        }
    }
    assert_eq!(turns, [5, 5], "the second copies take turns");
    // The first says that it is too much; the second that it wants none of it.
    let refused = Event::from_json(&all[0].json).unwrap();
    connections[0].ok(&refused, false, "rate-limited: slow down").await;
    connections[1].ok(&refused, false, "blocked: not here").await;
    while sessions.pool.status().iter().filter(|(_, status)| status.error.is_some()).count() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!sessions.pool.is_low(&relays), "one that takes little slows nothing while another takes all");
    assert!(
        sessions.pool.is_low(&relays[..1]) && sessions.pool.ready_in(&relays[..1]).unwrap() > Duration::ZERO
    );
    assert_eq!(
        sessions.pool.send(all[10].clone(), &relays),
        2,
        "the third, and the second for want of others"
    );
    for connection in &mut connections[1..] {
        assert_eq!(connection.published().await.1, all[10].json);
    }
    assert_eq!(sessions.pool.send(all[11].clone(), &relays[..1]), 0, "nobody takes it now");
}

#[tokio::test]
async fn a_relay_that_a_peer_named_is_left_when_nobody_needs_it() {
    let server = Server::start().await;
    let tuning = Tuning { idle_after: Duration::from_millis(20), ..quick() };
    let mut sessions = Sessions::with(&[&server.url], tuning);
    let _configured = server.accept_sessions().await;
    // Another path of a configured host and port may be dialled.
    let named = format!("{}/named", server.url);
    let key = SessionKey::generate();
    sessions.pool.listen(&key.public_key(), std::slice::from_ref(&named)).unwrap();
    let mut connection = server.accept_sessions().await;
    sessions.until(|inbound| matches!(inbound, Inbound::Synced { .. }).then_some(())).await;
    assert_eq!(sessions.pool.status().len(), 2);
    sessions.pool.forget(&key.public_key());
    connection.hung_up().await;
    assert_eq!(sessions.pool.status().len(), 1);
}

#[tokio::test]
async fn what_peers_name_is_dialled_only_within_the_rules_and_bounds() {
    let server = Server::start().await;
    let sessions = Sessions::start(&[&server.url]);
    let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
    let none = urls(&["ws://127.0.0.1:1", "wss://localhost", "wss://10.0.0.1", "ws://nos.lol"]);
    assert_eq!(sessions.pool.ensure(&none), []);
    assert_eq!(
        sessions.pool.ensure(&urls(&[&server.url, &format!("{}/", server.url)])).len(),
        1,
        "one relay"
    );
    let paths: Vec<_> = (0..40).map(|n| format!("{}/{n}", server.url)).collect();
    assert_eq!(sessions.pool.ensure(&paths).len(), 4, "of one peer's list");
    for chunk in paths.chunks(4) {
        sessions.pool.ensure(chunk);
    }
    assert_eq!(sessions.pool.status().len(), 1 + 16);
    let key = |n: u16| {
        let mut key = Hex([9; 32]);
        key.0[..2].copy_from_slice(&n.to_be_bytes());
        key
    };
    for n in 0..1_200 {
        assert!(sessions.pool.listen(&key(n), &[]).is_ok());
    }
    assert_eq!(sessions.pool.listen(&key(1_200), &[]), Err(TooManyKeys));
    assert!(sessions.pool.listen(&key(0), &[]).is_ok(), "one that is known");
}

#[tokio::test]
async fn wraps_are_asked_for_from_two_days_and_an_hour_before_the_cursor() {
    let (_relay, url) = relay(|builder| builder).await;
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let publisher = Sessions::start(&[&url]);
    let relays = publisher.pool.ensure(std::slice::from_ref(&url));
    let old = [(WrapOptions::FUZZ, "in reach"), (WrapOptions::FUZZ + 7_000, "out of reach")];
    for (age, text) in old {
        let rumor = Rumor { kind: 14, created_at: now(), tags: vec![], content: text.into() };
        let options = WrapOptions { wrapped_at: now() - age, ..WrapOptions::at(WrapKind::Stored, now()) };
        publisher.pool.publish(seal_wrap(&alice, &bob.public_key(), &rumor, &options).unwrap(), &relays);
    }
    let mut publisher = publisher;
    for _ in old {
        publisher.until(|inbound| matches!(inbound, Inbound::Published(_)).then_some(())).await;
    }
    let (sender, inbound) = mpsc::channel(64);
    let options = Options {
        relays: vec![url.clone()],
        inbox: vec![url.clone()],
        identity: bob.clone(),
        cursors: vec![(url, Class::Wrap, now() + 5_000)],
        inbound: sender,
        seen: None,
        tuning: quick(),
    };
    let mut bob = Agent { identity: bob, pool: Pool::start(options).unwrap(), inbound };
    let mut texts = Vec::new();
    loop {
        match bob.next().await {
            Inbound::Wrap { wrap, .. } => {
                texts.push(open_wrap(&bob.identity, &wrap, 0).unwrap().rumor.content);
            }
            Inbound::Synced { class: Class::Wrap, .. } => break,
            _ => {}
        }
    }
    // Pages overlap: the engine knows it by its id.
    texts.dedup();
    assert_eq!(texts, ["in reach"]);
}

#[tokio::test]
async fn whom_we_look_up_is_asked_of_our_own_relays_alone_and_again_once_they_know_a_key() {
    let server = Server::start().await;
    let mut sessions = Sessions::start(&[&server.url]);
    let author = Identity::generate();
    let answer = async |sessions: &mut Sessions| {
        sessions
            .until(|inbound| match inbound {
                Inbound::Whereabouts { token, found, answered, asked, .. } => {
                    Some((token, found.inbox.is_some(), answered, asked))
                }
                _ => None,
            })
            .await
    };
    let token = sessions.pool.look_up(author.public_key());
    assert_eq!(answer(&mut sessions).await, (token, false, 0, 0), "nobody is connected: at once");

    let mut ours = server.accept_sessions().await;
    let named = format!("{}/named", server.url);
    let key = SessionKey::generate();
    sessions.pool.listen(&key.public_key(), &[server.url.clone(), named]).unwrap();
    let _theirs = server.accept_sessions().await;
    session_request(&mut ours).await;
    sessions.until_proven(2).await;
    let token = sessions.pool.look_up(author.public_key());
    let (id, filter) = ours.request().await;
    assert_eq!((&filter["kinds"], &filter["authors"]), (&json!([10_050]), &json!([author.public_key()])));
    ours.send(json!(["AUTH", "challenge"])).await;
    ours.send(json!(["CLOSED", id, "auth-required: who are you?"])).await;
    let auth = ours.authentication().await;
    assert_ne!(auth.pubkey.to_bytes(), author.public_key().0);
    ours.ok(&auth, true, "").await;
    let (again, _) = ours.request().await;
    assert_ne!(again, id);
    let list = inbox::sign(&author, &[RelayId::parse("wss://one.example").unwrap()], now()).unwrap();
    ours.event(&again, &list).await;
    ours.end_of_stored(&again).await;
    assert_eq!(answer(&mut sessions).await, (token, true, 1, 1));
}
