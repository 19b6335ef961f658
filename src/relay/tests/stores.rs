//! What is kept, in memory and on disk.

use super::*;

/// Presence as agents publish it: replaced, listed by tag, deleted by `e` and by `a`.
async fn presence_is_replaced_and_deleted(relay: &EmbeddedRelay) {
    let keys = Keys::generate();
    let mut client = Client::connect(&relay.url()).await;
    let now = Timestamp::now().as_secs();
    let tags: &[&[&str]] = &[&["d", "agent"], &["t", "p2p-agent"]];
    let presence = |age: u64| sign_at(&keys, 30_078, &age.to_string(), tags, Timestamp::from_secs(now - age));
    let by_tag = json!({"kinds": [30_078], "#t": ["p2p-agent"]});
    let place = format!("30078:{}:agent", keys.public_key());

    for age in [9, 8] {
        client.accepts(&presence(age)).await;
        assert_eq!(client.stored(by_tag.clone()).await, [presence(age).id.to_hex()]);
    }
    client.refuses(&presence(9), "").await;

    let deletion = sign_at(&keys, 5, "", &[&["a", &place]], Timestamp::from_secs(now - 7));
    client.accepts(&deletion).await;
    assert!(client.stored(by_tag.clone()).await.is_empty());
    client.refuses(&presence(8), "").await;

    client.accepts(&presence(6)).await;
    let id = presence(6).id.to_hex();
    // The memory ignores it, LMDB refuses it.
    client.publish(&sign(&Keys::generate(), 5, "", &[&["e", &id]])).await;
    assert_eq!(client.stored(by_tag.clone()).await, std::slice::from_ref(&id));
    client.accepts(&sign_at(&keys, 5, "", &[&["e", &id]], Timestamp::from_secs(now))).await;
    assert!(client.stored(by_tag).await.is_empty());
}

#[tokio::test]
async fn presence_is_replaced_and_deleted_in_memory() {
    let relay = start().await;
    presence_is_replaced_and_deleted(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn presence_is_replaced_and_deleted_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = start_on(folder.path()).await;
    presence_is_replaced_and_deleted(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_store_on_disk_survives_a_restart_in_the_same_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let note = sign(&Keys::generate(), 1, "kept", &[]);
    let relay = start_on(folder.path()).await;
    Client::connect(&relay.url()).await.accepts(&note).await;
    relay.stop().await;
    let relay = start_on(folder.path()).await;
    assert_eq!(Client::connect(&relay.url()).await.stored(json!({"kinds": [1]})).await, [note.id.to_hex()]);
    relay.stop().await;
}

#[tokio::test]
async fn the_store_on_disk_holds_expired_events_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::generate();
    let disk = disk::Disk::open(folder.path()).expect("a store");
    let kept = sign_at(&keys, 1, "kept", &[], Timestamp::from_secs(1_600_000_000));
    for event in [&kept, &sign(&keys, 1, "", &[&["expiration", "1700000000"]])] {
        disk.save_event(event).await.expect("saved");
    }
    let filter = nostr_relay_builder::prelude::Filter::new().kind(Kind::TextNote).limit(1);
    assert_eq!(disk.query(filter).await.expect("an answer").to_vec(), [kept]);
}
