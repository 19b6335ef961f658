//! What is said outside of a call, or was left unsaid in one: plain NIP-17, readable in any client that reads direct
//! messages. Tags of ours tell which message of which call it is, so that what came in a frame is known again.
//!
//! Small files travel in the rumor itself, as a `data:` address (RFC 2397) where other clients put the address of an
//! encrypted upload: the wrap encrypts already, and nobody else has to keep them. Larger ones are such an upload, as a
//! parcel ([`crate::proto::v2::parcel`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::wrap::{Opened, Rumor};
use crate::proto::v2::parcel::Parcel;
use crate::proto::v2::signal::SharedCallId;
use crate::proto::{Hex, MessageId, PublicKey};

/// NIP-17's text message.
pub const TEXT: u16 = 14;
/// NIP-17's file message.
pub const FILE: u16 = 15;
/// Most raw bytes of a file: base64, its tags, and both layers of NIP-44 padding bring them just below the 64 KiB
/// that relays take.
pub const FILE_LIMIT: usize = 20_000;
/// Longest name, MIME type or address kept, characters.
const LABEL_LIMIT: usize = 512;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its id. Of a message without one, from other software: the first half of its rumor's.
    pub id: MessageId,
    /// The call that it belongs to.
    pub call: Option<SharedCallId>,
    /// Its place in its direction of the call, from 1.
    pub seq: Option<u64>,
    /// What it says.
    pub body: MailBody,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailBody {
    /// Words.
    Text(String),
    /// A file.
    File {
        /// Its name, as the sender says: see [`crate::proto::safe_file_name`].
        name: String,
        /// MIME type, as the sender says.
        mime: String,
        /// The bytes; their hash agreed.
        bytes: Vec<u8>,
    },
    /// A file that is elsewhere, encrypted, with what opens it.
    Parcel(Box<Parcel>),
    /// A file that other software has put elsewhere as it is. Nobody fetches it unasked.
    Link {
        /// Where.
        url: String,
        /// MIME type, as the sender says.
        mime: String,
    },
}

/// Why a rumor is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMail {
    /// Of another kind.
    #[error("kind {0} is no message")]
    Kind(u16),
    /// A file whose bytes cannot be read, or are not those that were named.
    #[error("a file that is not whole")]
    BrokenFile,
}

impl Mail {
    /// The rumor for a receiver. Whether it fits is seen when it is sealed.
    pub fn rumor(&self, receiver: &PublicKey, created_at: u64) -> Rumor {
        let mut tags = vec![tag("p", receiver), tag("p2p-id", self.id)];
        tags.extend(self.call.map(|call| tag("p2p-call", call)));
        tags.extend(self.seq.map(|seq| tag("p2p-seq", seq)));
        let (kind, content) = match &self.body {
            MailBody::Text(text) => (TEXT, text.clone()),
            MailBody::File { name, mime, bytes } => {
                tags.push(tag("file-type", mime));
                tags.push(tag("name", name));
                tags.push(tag("size", bytes.len()));
                tags.push(tag("x", hash(bytes)));
                (FILE, format!("data:{mime};base64,{}", STANDARD.encode(bytes)))
            }
            MailBody::Parcel(parcel) => {
                tags.extend(parcel.tags());
                (FILE, parcel.url.clone())
            }
            MailBody::Link { url, mime } => {
                tags.push(tag("file-type", mime));
                (FILE, url.clone())
            }
        };
        Rumor { kind, created_at, tags, content }
    }

    /// Reads what was in a wrap.
    ///
    /// # Errors
    /// [`NotMail`]. A tag of ours that is not what it should be counts as absent.
    pub fn parse(opened: &Opened) -> Result<Self, NotMail> {
        let rumor = &opened.rumor;
        let body = match rumor.kind {
            TEXT => MailBody::Text(rumor.content.clone()),
            FILE => file(rumor)?,
            other => return Err(NotMail::Kind(other)),
        };
        let mut short = Hex([0; 16]);
        short.0.copy_from_slice(&opened.id.0[..16]);
        Ok(Self {
            id: value(rumor, "p2p-id").unwrap_or(short),
            call: value(rumor, "p2p-call"),
            seq: value(rumor, "p2p-seq"),
            body,
        })
    }
}

fn file(rumor: &Rumor) -> Result<MailBody, NotMail> {
    let mime = text(rumor, "file-type");
    let Some(data) = rumor.content.strip_prefix("data:") else {
        if let Some(parcel) = Parcel::read(&rumor.content, &rumor.tags) {
            return Ok(MailBody::Parcel(Box::new(parcel)));
        }
        return Ok(MailBody::Link { url: cut(&rumor.content), mime });
    };
    let (kind, encoded) = data.split_once(',').ok_or(NotMail::BrokenFile)?;
    if !kind.ends_with(";base64") {
        return Err(NotMail::BrokenFile);
    }
    let bytes = STANDARD.decode(encoded).map_err(|_| NotMail::BrokenFile)?;
    if value(rumor, "x").is_some_and(|named: Hex<32>| named != hash(&bytes)) {
        return Err(NotMail::BrokenFile);
    }
    Ok(MailBody::File { name: text(rumor, "name"), mime, bytes })
}

fn hash(bytes: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(bytes).into())
}

fn tag(name: &str, value: impl ToString) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

fn find<'a>(rumor: &'a Rumor, name: &str) -> Option<&'a str> {
    rumor.tags.iter().find_map(|tag| match tag.as_slice() {
        [first, value, ..] if first == name => Some(value.as_str()),
        _ => None,
    })
}

fn value<T: std::str::FromStr>(rumor: &Rumor, name: &str) -> Option<T> {
    find(rumor, name)?.parse().ok()
}

fn text(rumor: &Rumor, name: &str) -> String {
    cut(find(rumor, name).unwrap_or_default())
}

fn cut(text: &str) -> String {
    text.chars().take(LABEL_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v2::parcel::Secret;
    use crate::transport::Identity;
    use crate::transport::v2::{WrapOptions, seal_wrap};

    const NOW: u64 = 1_790_000_000;

    fn opened(rumor: Rumor) -> Opened {
        Opened {
            from: Hex([1; 32]),
            to: Hex([9; 32]),
            id: rumor.id(&Hex([1; 32])),
            rumor,
            wrap: Hex([2; 32]),
        }
    }

    fn mail(body: MailBody) -> Mail {
        Mail { id: Hex([3; 16]), call: Some(Hex([4; 16])), seq: Some(7), body }
    }

    fn picture() -> MailBody {
        MailBody::File { name: "cat.png".into(), mime: "image/png".into(), bytes: vec![0, 1, 2, 255] }
    }

    #[test]
    fn every_message_survives_its_rumor() {
        let link =
            MailBody::Link { url: "https://files.example/1".into(), mime: "application/octet-stream".into() };
        let secret = Secret { key: [1; 32], nonce: vec![2; 12] };
        let mut parcel = Parcel::new("cat.png".into(), "image/png".into(), 5, Hex([6; 32]), &secret);
        parcel.url = "https://blobs.example/1".into();
        let parcel = MailBody::Parcel(Box::new(parcel));
        for body in [MailBody::Text("hello".into()), picture(), parcel, link] {
            let mail = mail(body);
            assert_eq!(Mail::parse(&opened(mail.rumor(&Hex([5; 32]), NOW))), Ok(mail));
        }
    }

    #[test]
    fn a_text_is_an_ordinary_direct_message_to_other_software() {
        let rumor = mail(MailBody::Text("hello".into())).rumor(&Hex([5; 32]), NOW);
        assert_eq!((rumor.kind, &*rumor.content, rumor.created_at), (14, "hello", NOW));
        assert_eq!(rumor.tags[0], ["p", &Hex([5; 32]).to_string()]);
    }

    #[test]
    fn a_message_of_other_software_is_named_after_its_rumor() {
        let rumor = Rumor { kind: TEXT, created_at: NOW, tags: vec![], content: "hi".into() };
        let opened = opened(rumor);
        let mail = Mail::parse(&opened).unwrap();
        assert_eq!((&mail.id.0[..], mail.call, mail.seq), (&opened.id.0[..16], None, None));
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused() {
        let mut rumor = mail(picture()).rumor(&Hex([5; 32]), NOW);
        rumor.content = rumor.content.replace("AAEC", "AAED");
        assert_eq!(Mail::parse(&opened(rumor.clone())), Err(NotMail::BrokenFile));
        for content in ["data:", "data:,x", "data:text/plain,x", "data:x;base64,?"] {
            rumor.content = content.into();
            assert_eq!(Mail::parse(&opened(rumor.clone())), Err(NotMail::BrokenFile), "{content}");
        }
        rumor.kind = 1;
        assert_eq!(Mail::parse(&opened(rumor)), Err(NotMail::Kind(1)));
    }

    #[test]
    fn the_largest_file_fits_with_the_longest_labels() {
        let (alice, bob) = (Identity::generate(), Identity::generate());
        let mail = Mail {
            seq: Some(u64::MAX),
            ..mail(MailBody::File {
                name: "🐈".repeat(crate::proto::NAME_LIMIT),
                mime: "x".repeat(128),
                bytes: vec![7; FILE_LIMIT],
            })
        };
        let rumor = mail.rumor(&bob.public_key(), NOW);
        seal_wrap(&alice, &bob.public_key(), &rumor, &WrapOptions::fuzzed(NOW, 1, 2)).unwrap();
    }
}
