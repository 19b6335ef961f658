//! Every time and count that decides how a link behaves, with where it comes from. Tests pass shorter ones.

use std::time::Duration;

/// How links behave. [`Tuning::DEFAULT`] is what daemons run with.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Looking up the name and connecting TCP. Linux alone would try for two minutes.
    pub connect_within: Duration,
    /// TLS and the WebSocket handshake after it: two or three round trips, with room for a relay under load.
    pub handshake_within: Duration,
    /// The first wait before dialling again. A relay that restarts is back in less than a second.
    pub backoff_first: Duration,
    /// The longest wait before dialling again: what waits for the only relay leaves within 15 s of its
    /// return. A dial costs a dead relay's host one TCP segment.
    pub backoff_most: Duration,
    /// A connection that lived so long proves that the relay is well: the backoff begins anew.
    pub steady_after: Duration,
    /// Between WebSocket pings: below the idle limit of the usual proxies (60 s), and so often that a relay that goes mute
    /// is named within 20 s.
    pub ping_every: Duration,
    /// Any sign of life has to come so soon after a ping; with `ping_every`, a half-open socket is noticed within
    /// 20 s.
    pub pong_within: Duration,
    /// What is queued for the socket has to leave within this time.
    pub write_within: Duration,
    /// A relay that has not answered an event for so long is taken for mute, and dialled again.
    pub ok_within: Duration,
    /// So many times the same event may meet silence or a cut before it makes room for the next one: some relays
    /// close the socket on what they will not take.
    pub tries_unanswered: u32,
    /// `error:` is the relay's own trouble: so many more tries.
    pub tries_error: u32,
    /// The first wait after `rate-limited:` or `error:`; doubles.
    pub pause_first: Duration,
    /// The longest wait after `rate-limited:`: the usual budgets are a minute's.
    pub pause_most: Duration,
    /// Events asked for in one stored page: the limit of strfry, and of most others.
    pub page: usize,
    /// A page of at least so many events of one single second may have been cut by the relay's limit. No relay we
    /// know serves fewer than 100 a query; nobody we know stores 100 events in one second.
    pub full_page: usize,
    /// A stored page in which nothing arrives for so long has no end: some relays never send EOSE.
    pub page_quiet: Duration,
    /// So long stored messages are kept back to be put in order, however slowly the pages come.
    pub order_within: Duration,
    /// The first wait before subscribing again after CLOSED; doubles.
    pub resubscribe_first: Duration,
    /// The longest wait before subscribing again.
    pub resubscribe_most: Duration,
    /// When the reader of our events kept a socket waiting for so long, the relay may have dropped what it could
    /// not send: the stored events are asked for again.
    pub stall: Duration,
    /// Between two such repeats, so that a slow reader is not made slower.
    pub stall_repeat: Duration,
    /// How often a quiet link moves its cursor, so that a long life does not mean a long catching up.
    pub cursor_every: Duration,
    /// How far before the cursor direct messages are asked for (`docs/decisions/0002-look-back.md`).
    pub direct_look_back: Duration,
    /// How far before the cursor gift wraps are asked for: NIP-59 sets their time back by up to two days, and clocks
    /// differ.
    pub wrap_look_back: Duration,
    /// How far back frames are asked for: relays that keep ephemeral events keep them so long (strfry).
    pub session_look_back: Duration,
    /// A foreign relay that no session needs any more is left after so long: a call that follows soon finds it.
    pub idle_after: Duration,
    /// A foreign relay is left after so long even with wraps that it has not taken; they are published again.
    pub unreachable_after: Duration,
    /// A relay that refused a frame gets none for so long, if there are others.
    pub doubt: Duration,
    /// An event to ourselves has to be back over a relay so soon: a hundred round trips, or one to a relay that
    /// stores first and is busy.
    pub echo_within: Duration,
    /// A relay over which none came back is tried again after so long: the longest that one which keeps ephemeral
    /// events (strfry) could show us an old one.
    pub echo_again: Duration,
    /// How old an announcement may be: what counts as online.
    pub presence_age: Duration,
    /// The longest that a refresh waits for its relays.
    pub refresh_within: Duration,
    /// How long a refresh waits for the slower relays once the first has answered, and for the next page of one that is
    /// telling.
    pub refresh_grace: Duration,
    /// The longest that a refresh waits for relays that are telling: forty pages of 350 KB over a slow line.
    pub walk_within: Duration,
    /// How long a stop lets queued events leave.
    pub drain: Duration,
    /// Wall clock and monotonic clock this far apart mean a suspend or a clock that was set: every socket is
    /// suspect.
    pub clock_jump: Duration,
    /// How often the clocks are compared: a sleep is to be noticed within two seconds of its end.
    pub clock_check: Duration,
}

impl Tuning {
    /// What daemons run with.
    pub const DEFAULT: Self = Self {
        connect_within: Duration::from_secs(10),
        handshake_within: Duration::from_secs(10),
        backoff_first: Duration::from_millis(250),
        backoff_most: Duration::from_secs(12),
        steady_after: Duration::from_secs(60),
        ping_every: Duration::from_secs(12),
        pong_within: Duration::from_secs(7),
        write_within: Duration::from_secs(10),
        ok_within: Duration::from_secs(10),
        tries_unanswered: 3,
        tries_error: 3,
        pause_first: Duration::from_secs(1),
        pause_most: Duration::from_secs(60),
        page: 500,
        full_page: 100,
        page_quiet: Duration::from_secs(15),
        order_within: Duration::from_secs(60),
        resubscribe_first: Duration::from_secs(1),
        resubscribe_most: Duration::from_secs(60),
        stall: Duration::from_secs(1),
        stall_repeat: Duration::from_secs(60),
        cursor_every: Duration::from_secs(600),
        direct_look_back: Duration::from_secs(86_400),
        wrap_look_back: Duration::from_secs(2 * 86_400 + 3_600),
        session_look_back: Duration::from_secs(300),
        idle_after: Duration::from_secs(60),
        unreachable_after: Duration::from_secs(600),
        doubt: Duration::from_secs(60),
        echo_within: Duration::from_secs(10),
        echo_again: Duration::from_secs(300),
        presence_age: Duration::from_secs(300),
        refresh_within: Duration::from_secs(5),
        refresh_grace: Duration::from_secs(1),
        walk_within: Duration::from_secs(20),
        drain: Duration::from_secs(2),
        clock_jump: Duration::from_secs(30),
        clock_check: Duration::from_secs(1),
    };
}

impl Default for Tuning {
    fn default() -> Self {
        Self::DEFAULT
    }
}
