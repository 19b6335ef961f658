//! Text that nobody is to find later: a secret key in one of its spellings, a password.

use std::hint::black_box;

/// A text that is overwritten when dropped. Deliberately without `Debug`, `Display` and `Clone`.
///
/// It guards against memory that is handed on with what was in it, not against copies that whoever reads it makes.
pub struct SecretText(String);

impl SecretText {
    /// Takes a text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text. What is made of it is the caller's to wipe.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

/// Overwrites bytes in a way that the compiler may not leave out.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}
