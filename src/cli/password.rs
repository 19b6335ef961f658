//! A password: from a file that is its user's alone, or from a person at a terminal. Never from the words of a command,
//! which every process may read, and never from the environment, which every child inherits.

use std::io::{IsTerminal, stderr, stdin};
use std::path::Path;

use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use super::session::Session;
use crate::api::{Error, ErrorKind};
use crate::home::read_secret;
use crate::proto::{SecretText, wipe};

/// The longest password that is taken from a terminal; a terminal hands over a line of at most 4,095 bytes.
const LIMIT: usize = 1_024;

/// The password from a file, or, without one, from the terminal; `twice` for one that is new.
pub(super) async fn get(session: &Session, file: Option<&Path>, twice: bool) -> Result<SecretText, Error> {
    if let Some(path) = file {
        return from_file(path);
    }
    let first = ask(session, "password: ").await?;
    if twice && ask(session, "the same again: ").await?.expose() != first.expose() {
        return Err(wrong("the two passwords differ", "run the command again; nothing was written"));
    }
    Ok(first)
}

fn from_file(path: &Path) -> Result<SecretText, Error> {
    let text = read_secret(path)?;
    let line = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(wrong(format!("{} holds no password", path.display()), "write it there, in one line"));
    }
    Ok(SecretText::new(line.to_owned()))
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidValue, what, hint)
}

/// Asks the person in front of the terminal, who does not see what they type.
async fn ask(session: &Session, question: &str) -> Result<SecretText, Error> {
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        return Err(wrong(
            "a password is asked for at a terminal, and this is none",
            "write it into a file that is yours alone (chmod 600), and name that: --password-file FILE",
        ));
    }
    // Before the question is seen: what is typed at once is not shown either.
    let silent = Silent::begin().map_err(Error::internal)?;
    session.printer.ask(question);
    // In a thread of its own, so that Ctrl-C ends the command at once, and the terminal is put right. The thread then
    // ends with the process.
    let (told, line) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody waits any more.
        let _ = told.send(read_line());
    });
    let line = line.await.map_err(Error::internal)?;
    drop(silent);
    line
}

/// Reads one line, without the buffer of std, which would keep it.
fn read_line() -> Result<SecretText, Error> {
    let mut buffer = [0; LIMIT + 1];
    let mut length = 0;
    let outcome = loop {
        match rustix::io::read(stdin(), &mut buffer[length..]) {
            Err(Errno::INTR) => {}
            Err(error) => break Err(Error::internal(error)),
            Ok(0) if length > LIMIT => break Err(wrong(format!("more than {LIMIT} bytes"), "a shorter one")),
            Ok(0) => break Ok(()),
            Ok(count) => {
                length += count;
                if buffer[..length].ends_with(b"\n") {
                    length -= 1;
                    break Ok(());
                }
            }
        }
    };
    let text = outcome.and_then(|()| {
        let text = std::str::from_utf8(&buffer[..length])
            .map_err(|_| wrong("the password is not UTF-8", "see: locale"))?;
        if text.is_empty() {
            return Err(wrong("no password was given", "run the command again"));
        }
        Ok(SecretText::new(text.to_owned()))
    });
    wipe(&mut buffer);
    text
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent {
    before: Termios,
}

impl Silent {
    fn begin() -> Result<Self, Errno> {
        let before = tcgetattr(stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown, or the next text would begin behind the question.
        silent.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        // What was typed before the question was no answer to it.
        tcsetattr(stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.before);
    }
}
