//! NIP-44's published test vectors (`tests/nip44.vectors.json`, from github.com/paulmillr/nip44): 128 cases, each of
//! which must come out as it is written there. The cipher is the SDK's; what is tested is that the version we build on
//! is right, and that we hand it keys and payloads in the right form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr_sdk::nips::nip44::{self, v2};
use nostr_sdk::util::hkdf;
use nostr_sdk::{PublicKey, SecretKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::proto::Hex;
use crate::transport::Identity;
use crate::transport::fuzz::{LONGEST, Nonce, padded_nip44};

const VECTORS: &str = include_str!("../../../tests/nip44.vectors.json");
const PUBLISHED: &str = "269ed0f69e4c192512cc779e78c555090cebc7c785b609e338a62afc3ce25040";

fn hex<const N: usize>(value: &Value) -> [u8; N] {
    value.as_str().unwrap().parse::<Hex<N>>().unwrap().0
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Hex::<32>(Sha256::digest(bytes).into()).to_string()
}

fn secret(value: &Value) -> nostr_sdk::Result<SecretKey, nostr_sdk::key::Error> {
    SecretKey::from_hex(text(value))
}

fn key(value: &Value) -> v2::ConversationKey {
    v2::ConversationKey::new(hex(value))
}

fn encrypt(key: &v2::ConversationKey, nonce: &Value, plaintext: &str) -> String {
    let mut nonce = Nonce(hex(nonce));
    STANDARD.encode(v2::encrypt_to_bytes_with_rng(&mut nonce, key, plaintext.as_bytes()).unwrap())
}

fn decrypt(key: &v2::ConversationKey, payload: &str) -> Result<Vec<u8>, nip44::Error> {
    let payload = STANDARD.decode(payload)?;
    // As `nip44::decrypt` begins, which takes the two keys.
    nip44::Version::try_from(payload.first().copied().unwrap_or_default())?;
    v2::decrypt_to_bytes(key, &payload)
}

#[test]
fn the_128_published_vectors_of_nip_44_come_out() {
    assert_eq!(sha256(VECTORS), PUBLISHED, "the file as it was published");
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let (valid, invalid) = (&all["v2"]["valid"], &all["v2"]["invalid"]);
    let mut ran = 0;
    let mut each = |list: &Value, test: &dyn Fn(&Value)| {
        for case in list.as_array().unwrap() {
            test(case);
            ran += 1;
        }
    };

    each(&valid["get_conversation_key"], &|case| {
        let public = PublicKey::from_byte_array(hex(&case["pub2"]));
        let derived = v2::ConversationKey::derive(&secret(&case["sec1"]).unwrap(), &public).unwrap();
        assert_eq!(derived, key(&case["conversation_key"]));
    });
    let conversation = hex::<32>(&valid["get_message_keys"]["conversation_key"]);
    each(&valid["get_message_keys"]["keys"], &|case| {
        let keys = hkdf::expand(&conversation, &hex::<32>(&case["nonce"]), 76);
        assert_eq!(keys[..32], hex::<32>(&case["chacha_key"]));
        assert_eq!(keys[32..44], hex::<12>(&case["chacha_nonce"]));
        assert_eq!(keys[44..], hex::<32>(&case["hmac_key"]));
    });
    each(&valid["calc_padded_len"], &|case| {
        let [length, padded] = [0, 1].map(|place| case[place].as_u64().unwrap() as usize);
        let payload = v2::encrypt_to_bytes(&v2::ConversationKey::new([1; 32]), &vec![7; length]);
        // One case is longer than a message may be.
        match payload {
            Ok(payload) => assert_eq!(payload.len(), 1 + 32 + 2 + padded + 32),
            Err(_) => assert_eq!((length, padded), (65_536, 65_536)),
        }
    });
    each(&valid["encrypt_decrypt"], &|case| {
        let [ours, theirs] =
            ["sec1", "sec2"].map(|name| Identity::from_secret_hex(text(&case[name])).unwrap());
        let (plaintext, payload) = (text(&case["plaintext"]), text(&case["payload"]));
        let derived = v2::ConversationKey::derive(ours.keys().secret_key(), &theirs.keys().public_key());
        assert_eq!(derived.unwrap(), key(&case["conversation_key"]));
        assert_eq!(encrypt(&key(&case["conversation_key"]), &case["nonce"], plaintext), payload);
        for (reader, author) in [(&ours, &theirs), (&theirs, &ours)] {
            let read = nip44::decrypt(reader.keys().secret_key(), &author.keys().public_key(), payload);
            assert_eq!(read.unwrap(), plaintext);
        }
    });
    each(&valid["encrypt_decrypt_long_msg"], &|case| {
        let plaintext = text(&case["pattern"]).repeat(case["repeat"].as_u64().unwrap() as usize);
        assert_eq!(sha256(&plaintext), text(&case["plaintext_sha256"]));
        // The SDK encrypts a little less than this: what it has to read is put together here.
        assert!(plaintext.len() > LONGEST);
        let mut padded = (plaintext.len() as u16).to_be_bytes().to_vec();
        padded.extend(plaintext.bytes());
        padded.resize(2 + 65_536, 0);
        let payload = padded_nip44(&key(&case["conversation_key"]), hex(&case["nonce"]), &padded);
        let payload = STANDARD.encode(payload);
        assert_eq!(sha256(&payload), text(&case["payload_sha256"]));
        assert_eq!(decrypt(&key(&case["conversation_key"]), &payload).unwrap(), plaintext.as_bytes());
    });

    each(&invalid["encrypt_msg_lengths"], &|length| {
        let plaintext = vec![7; length.as_u64().unwrap() as usize];
        assert!(v2::encrypt_to_bytes(&v2::ConversationKey::new([1; 32]), &plaintext).is_err(), "{length}");
    });
    each(&invalid["get_conversation_key"], &|case| {
        let public = PublicKey::from_byte_array(hex(&case["pub2"]));
        let derived = secret(&case["sec1"]).map(|secret| v2::ConversationKey::derive(&secret, &public));
        assert!(!matches!(derived, Ok(Ok(_))), "{}", case["note"]);
    });
    each(&invalid["decrypt"], &|case| {
        let read = decrypt(&key(&case["conversation_key"]), text(&case["payload"]));
        assert!(read.is_err(), "{}", case["note"]);
    });
    assert_eq!(ran, 128);
}
