//! A POST to the owner's webhook, signed as Standard Webhooks 1.0 has it: three headers, of which the last is the HMAC
//! with SHA-256 of `id.timestamp.body` under the secret that both sides have. Libraries that verify it exist for every
//! language (`standardwebhooks` on PyPI and npm).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Errand;

/// How long a webhook may take.
const POST_TIME: Duration = Duration::from_secs(15);

/// The value of `webhook-signature`.
fn signature(secret: &[u8], id: &str, at: u64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// POSTs an errand's JSON once; when to try again is the engine's to say.
pub(super) async fn post(url: &str, errand: &Errand) -> Result<(), String> {
    let (url, body) = (url.to_owned(), errand.parcel.json());
    let (id, at) = (errand.id.clone(), errand.at);
    let secret = errand.secret.as_deref().ok_or("there is no secret to sign with: owner_webhook_secret")?;
    let signature = signature(secret, &id, at, &body).ok_or("the secret signs nothing")?;
    let sending = move || post_once(&url, &id, at, &signature, &body);
    tokio::task::spawn_blocking(sending).await.map_err(|error| error.to_string())?
}

fn post_once(url: &str, id: &str, at: u64, signature: &str, body: &str) -> Result<(), String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(POST_TIME)).max_redirects(0).build().into();
    let request = agent
        .post(url)
        .content_type("application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", signature);
    // The error could repeat the URL, which may carry a secret: its kind is enough.
    match request.send(body) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(format!("it answered {code}")),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer in {} s", POST_TIME.as_secs())),
        Err(ureq::Error::HostNotFound) => Err("its host is not known".into()),
        Err(ureq::Error::Io(error)) => Err(error.kind().to_string()),
        Err(_) => Err("it cannot be reached".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::signature;
    use crate::home::settings::webhook_key;

    /// The example of the specification (standard-webhooks, 1.0, and the tests of its libraries).
    #[test]
    fn a_signature_is_the_one_that_the_specification_shows() {
        let secret = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#)
                .unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
}
