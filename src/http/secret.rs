//! What only one side can know: made here, compared in constant time, never logged.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 256 random bits, as 43 characters of base64url. Without `Debug`: it goes where somebody puts it, and nowhere else.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A fresh one.
    pub fn fresh() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system has randomness once it is up");
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The text, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether somebody knows it. Takes as long for every text of its length.
    pub fn is(&self, text: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), text.as_bytes());
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_whole_or_not_at_all() {
        let secret = Secret::fresh();
        assert_eq!(secret.reveal().len(), 43);
        assert!(secret.is(secret.reveal()));
        for wrong in ["", &secret.reveal()[1..], Secret::fresh().reveal()] {
            assert!(!secret.is(wrong));
        }
    }
}
