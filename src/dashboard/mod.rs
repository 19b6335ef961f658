//! L4, a page for the owner: who am I, which relays, which calls, what was said, and the questions that wait for an
//! answer. On the loopback address, for one browser, until the process ends.
//!
//! ```text
//!  browser ── #token, once ──▶ /api/session ──▶ cookie (HttpOnly, Strict) + key (of this tab)
//!     │            both ──▶ /api/state/CURSOR, /api/transcript/CALL ──▶ Line ── socket ──▶ daemon
//!     └─────────── both ──▶ /api/answer ──▶ is a person at the terminal? ──▶ Line ──▶ the daemon asks the same
//! ```
//!
//! # Invariants
//!
//! * The token is in the part of the address that browsers send to nobody. It counts once.
//! * Cookies know no ports: another server of this machine is sent ours as well. So each request carries a second
//!   secret, which only the page of this address has.
//! * An answer is the owner's only if the page was begun by a person: this process has a terminal, and the daemon looks
//!   for itself (docs/decisions/0007-who-is-a-person.md). Begun by a program, the page shows, and answers nothing.
//! * Whatever a peer wrote reaches the page as text with nothing in it that hides or reorders, and is put there as text.
//! * Looking marks nothing as read, and starts no daemon.

mod pages;
mod session;
mod view;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;

use self::pages::Page;
use self::session::Sessions;
use crate::api::{Error, ErrorKind};
use crate::daemon::Line;
use crate::home::Home;
use crate::http;

/// What a dashboard is begun with.
pub struct Options {
    /// The home, if not the default one.
    pub folder: Option<PathBuf>,
    /// 0 takes any free one.
    pub port: u16,
    /// A person sits at the terminal that this process has: they may answer.
    pub person: bool,
}

/// A page that is about to be served.
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    page: Page,
    token: http::Secret,
}

impl Dashboard {
    /// Takes a port. The daemon has to run already.
    ///
    /// # Errors
    /// `invalid-value` if the port is taken.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let wanted = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), options.port);
        let (listener, address) = http::listen(wanted).await?;
        let (sessions, token) = Sessions::begin(address.port());
        let page = Page::new(Line::looking(options.folder), sessions, options.person);
        Ok(Self { listener, address, page, token })
    }

    /// The address with the token, which counts once.
    pub fn url(&self) -> String {
        format!("http://{}/#{}", self.address, self.token.reveal())
    }

    /// A file of its user's alone that leads a browser to the page: an address among a program's arguments could be read
    /// by everybody on this machine. It is gone when it is dropped.
    ///
    /// # Errors
    /// `unsafe-home` if it cannot be written.
    pub fn way_in(&self, home: &Home) -> Result<tempfile::NamedTempFile, Error> {
        let written = || -> io::Result<_> {
            let mut file =
                tempfile::Builder::new().prefix("dashboard-").suffix(".html").tempfile_in(home.state())?;
            let url = self.url();
            writeln!(
                file,
                "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
                 <meta http-equiv=\"refresh\" content=\"0; url={url}\">\n<title>p2p-comm</title>\n\
                 <p><a href=\"{url}\">Open the dashboard</a></p>"
            )?;
            file.flush()?;
            Ok(file)
        };
        written().map_err(|error| {
            let message = format!("no file can be made in {}: {error}", home.state().display());
            Error::new(
                ErrorKind::UnsafeHome,
                message,
                "open the address by hand: p2p-comm dashboard --no-open",
            )
        })
    }

    /// Serves it for ever: its sessions end with this future.
    pub async fn serve(self) {
        let router = http::guard(self.page.router(), http::Names::Loopback(self.address.port()));
        http::serve(self.listener, router).await;
    }
}
