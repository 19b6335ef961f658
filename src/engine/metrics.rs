//! What is counted, and how it stands, for whoever watches over an agent (`docs/observability.md`).
//!
//! What happens is counted when its batch has been committed. Labels are words of ours and the relays that the user has
//! configured: nothing that a peer could make many of.

use std::collections::{BTreeMap, BTreeSet};

use super::core::{Answer, Attempt, Core, Fault};
use crate::api::{Metric, MetricKind, Metrics, Sample};
use crate::proto::{CallState, EventKind, Protocol};
use crate::transport::{Counters, RelayId};

/// Something that is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    /// A message was accepted here, or shown here; of no call, it is mail.
    Message { out: bool, dialect: Option<Protocol> },
    /// Something happened.
    Journal(EventKind),
}

/// All that was counted since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    messages: BTreeMap<(&'static str, &'static str), u64>,
    journal: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<&'static str, u64>,
    /// What each link had counted at the last look: links come and go, and a counter only rises.
    looked: BTreeMap<(bool, RelayId), Counters>,
}

impl Tally {
    pub(super) fn count(&mut self, count: Count) {
        match count {
            Count::Message { out, dialect } => {
                let direction = if out { "out" } else { "in" };
                let dialect = dialect.map_or("mail", |dialect| dialect.word());
                *self.messages.entry((direction, dialect)).or_default() += 1;
            }
            Count::Journal(kind) => *self.journal.entry(kind.word()).or_default() += 1,
        }
    }

    /// Adds what links have thrown away since the last look.
    fn look(&mut self, links: BTreeMap<(bool, RelayId), Counters>) {
        for (link, now) in &links {
            let before = self.looked.get(link).copied().unwrap_or_default();
            for ((reason, now), (_, before)) in reasons(now).into_iter().zip(reasons(&before)) {
                // A link that was made anew counts from zero.
                let more = if now >= before { now - before } else { now };
                *self.dropped.entry(reason).or_default() += more;
            }
        }
        self.looked = links;
    }
}

/// What a link threw away, in words.
fn reasons(counters: &Counters) -> [(&'static str, u64); 8] {
    // No `..`: a new counter is to be shown.
    let Counters {
        unparsable,
        unknown_subscription,
        not_asked_for,
        too_large,
        from_the_future,
        altered,
        unlabelled,
        undecryptable,
        stray_ok: _,
        notices: _,
        challenges_ignored: _,
    } = *counters;
    [
        ("unparsable", unparsable),
        ("unknown_subscription", unknown_subscription),
        ("not_asked_for", not_asked_for),
        ("too_large", too_large),
        ("from_the_future", from_the_future),
        ("altered", altered),
        ("unlabelled", unlabelled),
        ("undecryptable", undecryptable),
    ]
}

/// Metrics as they are gathered.
#[derive(Default)]
struct Gathered(Vec<Metric>);

impl Gathered {
    fn add(&mut self, kind: MetricKind, name: &str, help: &str, samples: Vec<Sample>) {
        self.0.push(Metric { name: name.to_owned(), help: help.to_owned(), kind, samples });
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.add(MetricKind::Gauge, name, help, vec![sample(&[], value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.add(MetricKind::Counter, name, help, vec![sample(&[], value)]);
    }
}

fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels.iter().map(|(label, of)| ((*label).to_owned(), (*of).to_owned())).collect();
    Sample { labels, value }
}

impl Core {
    pub(super) fn metrics(&mut self, attempt: Attempt) -> Result<Answer, Fault> {
        let links = self.pool.counters().into_iter().map(|(relay, counters)| ((true, relay), counters));
        let sessions =
            self.sessions.counters().into_iter().map(|(relay, counters)| ((false, relay), counters));
        self.tally.look(links.chain(sessions).collect());
        let mut all = Gathered::default();
        self.gather_events(&mut all);
        self.gather_relays(&mut all);
        self.gather_state(&mut all, attempt)?;
        gather_process(&mut all);
        all.0.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Metrics { metrics: all.0 }.into())
    }

    fn gather_events(&self, all: &mut Gathered) {
        let tally = &self.tally;
        let mut messages = Vec::new();
        for direction in ["in", "out"] {
            for dialect in [Protocol::V2.word(), Protocol::Legacy.word(), "mail"] {
                let count = tally.messages.get(&(direction, dialect)).copied().unwrap_or_default();
                messages.push(sample(&[("direction", direction), ("dialect", dialect)], count as f64));
            }
        }
        let help = "Messages and files accepted here to be sent (out), and shown here (in), since the start.";
        all.add(MetricKind::Counter, "p2p_comm_messages_total", help, messages);
        let journal = EventKind::ALL
            .iter()
            .map(|kind| (kind.word(), tally.journal.get(kind.word()).copied().unwrap_or_default()))
            .map(|(kind, count)| sample(&[("kind", kind)], count as f64))
            .collect();
        let help = "Events of the journal since the start, by kind.";
        all.add(MetricKind::Counter, "p2p_comm_journal_events_total", help, journal);
        let dropped = tally
            .dropped
            .iter()
            .map(|(reason, count)| sample(&[("reason", reason)], *count as f64))
            .collect();
        let help = "Events of relays that were not let in, by reason.";
        all.add(MetricKind::Counter, "p2p_comm_events_dropped_total", help, dropped);
    }

    fn gather_relays(&self, all: &mut Gathered) {
        let relays = self.pool.status();
        let of_each = |value: &dyn Fn(&crate::api::RelayStatus) -> Option<f64>| {
            relays
                .iter()
                .filter_map(|relay| Some(sample(&[("relay", &relay.url)], value(relay)?)))
                .collect::<Vec<_>>()
        };
        let connected = of_each(&|relay| Some(f64::from(u8::from(relay.connected))));
        let help = "Whether the relay is connected.";
        all.add(MetricKind::Gauge, "p2p_comm_relay_connected", help, connected);
        let help = "The last round trip to the relay.";
        let rtt = of_each(&|relay| relay.rtt_ms.map(|ms| ms / 1_000.0));
        all.add(MetricKind::Gauge, "p2p_comm_relay_rtt_seconds", help, rtt);
        let (accepted, refused) = relays
            .iter()
            .fold((0, 0), |(accepted, refused), relay| (accepted + relay.accepted, refused + relay.refused));
        let outcomes = vec![
            sample(&[("outcome", "accepted")], accepted as f64),
            sample(&[("outcome", "refused")], refused as f64),
        ];
        let help = "Answers of relays to events of ours.";
        all.add(MetricKind::Counter, "p2p_comm_events_published_total", help, outcomes);
        let used: BTreeSet<_> = self.sessions.status().into_iter().map(|(relay, _)| relay).collect();
        let help = "Relays that carry calls, those that peers have named among them.";
        all.gauge("p2p_comm_session_relays", help, used.len() as f64);
        if let Some(offset) = self.pool.clock().offset_s {
            all.gauge(
                "p2p_comm_clock_offset_seconds",
                "By how much the relays' clock is ahead of ours.",
                offset,
            );
        }
    }

    fn gather_state(&self, all: &mut Gathered, attempt: Attempt) -> Result<(), Fault> {
        let live = |state: CallState| {
            self.board.live().filter(|call| !call.queued && call.state() == state).count() as f64
        };
        let calls = [CallState::Ringing, CallState::Connected]
            .map(|state| sample(&[("state", state.word())], live(state)))
            .to_vec();
        all.add(MetricKind::Gauge, "p2p_comm_calls", "Calls that ring or are up.", calls);
        let outbox = vec![
            sample(&[("state", "queued")], self.store.outbox_count()? as f64),
            sample(&[("state", "failed")], self.store.failed_count()? as f64),
        ];
        let help = "Messages that wait to leave, and those that failed for good.";
        all.add(MetricKind::Gauge, "p2p_comm_outbox_messages", help, outbox);
        let unread = self.store.unread_count()? as f64;
        all.gauge("p2p_comm_unread_messages", "Messages of peers that nobody has read.", unread);
        let open = self.store.open_tickets()?.len() as f64;
        all.gauge("p2p_comm_owner_questions", "Questions that wait for the owner.", open);
        let online = self.directory.online(attempt.now).count() as f64;
        all.gauge("p2p_comm_agents_online", "Agents that have announced themselves lately.", online);
        let listening = f64::from(u8::from(self.outlook.is_listening()));
        let help = "Whether announcements are asked for: in a crowd, only while somebody looks.";
        all.gauge("p2p_comm_listening", help, listening);
        all.gauge("p2p_comm_waiting_commands", "Commands that block.", self.waiters.len() as f64);
        let up = self.started.elapsed().as_secs_f64();
        all.gauge("p2p_comm_uptime_seconds", "Time since the engine began.", up);
        let build = vec![sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)];
        all.add(MetricKind::Gauge, "p2p_comm_build_info", "The version that runs.", build);
        Ok(())
    }
}

/// Of this process, by the names that Prometheus' own clients use. Where there is no `/proc`, only what is known.
fn gather_process(all: &mut Gathered) {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
    all.counter("process_cpu_seconds_total", "Processor time of this process.", seconds);
    // Pages: size, resident, shared … (proc_pid_statm(5)).
    let resident = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<f64>().ok());
    if let Some(pages) = resident {
        let bytes = pages * rustix::param::page_size() as f64;
        all.gauge("process_resident_memory_bytes", "Resident memory of this process.", bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        all.gauge("process_open_fds", "Open descriptors of this process.", files.count() as f64);
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        all.gauge("process_max_fds", "Most descriptors that this process may open.", most as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_only_rises_whatever_becomes_of_links() {
        let relay = || RelayId::parse("wss://a.example").unwrap();
        let link =
            |altered| BTreeMap::from([((false, relay()), Counters { altered, ..Counters::default() })]);
        let mut tally = Tally::default();
        for (links, expected) in
            [(link(3), 3), (link(5), 5), (BTreeMap::new(), 5), (link(2), 7), (link(1), 8)]
        {
            tally.look(links);
            assert_eq!(tally.dropped["altered"], expected);
        }
    }
}
