//! What strangers can send, each as a function of bytes: the inputs of `make fuzz`, and of a short run in `make test`.
//!
//! ```text
//!   fuzz/corpus/<input>/* ──┬─▶ libFuzzer, guided by coverage (fuzz/main.rs, `make fuzz`)   ──▶ Input::try_out
//!                           └─▶ each as it is, and edited at random (the tests below)       ──▶ Input::try_out
//! ```
//!
//! Random bytes die at the first signature or MAC, so most inputs put the bytes at each depth in turn: inside an event
//! that is signed, inside a wrap whose MACs are right. A case must not panic, must not take [`TIME_LIMIT`] of processor
//! time, and must not hold more than [`MEMORY_LIMIT`]; the inputs add what must be true of what comes out.
//!
//! Only tests and the feature `fuzz` have this module.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{home, ipc, proto, relay, transport};

/// The longest that a case may take, of its own thread's processor time: other programs on the machine do not count.
pub const TIME_LIMIT: Duration = Duration::from_secs(1);
/// The most bytes that a case may hold at once, as far as Rust's allocator gives them.
pub const MEMORY_LIMIT: usize = 32 << 20;

/// Something that reads what a stranger wrote.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// The name of its corpus.
    pub name: &'static str,
    /// Reads the bytes; panics if something is not as it must be.
    pub read: fn(&[u8]),
}

/// Every input.
pub const INPUTS: [Input; 13] = [
    Input { name: "relay-frames", read: transport::fuzz::relay_frames },
    Input { name: "event", read: transport::fuzz::event },
    Input { name: "nip44", read: transport::fuzz::nip44 },
    Input { name: "wrap", read: transport::fuzz::wrap },
    Input { name: "session-frame", read: transport::fuzz::session_frame },
    Input { name: "address", read: transport::fuzz::address },
    Input { name: "payload", read: proto::fuzz::payload },
    Input { name: "batch", read: proto::fuzz::batch },
    Input { name: "delivery", read: proto::fuzz::delivery },
    Input { name: "text", read: proto::fuzz::text },
    Input { name: "ipc-line", read: ipc::fuzz::line },
    Input { name: "settings", read: home::fuzz::files },
    Input { name: "relay-client", read: relay::fuzz::client },
];

impl Input {
    /// The input of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        INPUTS.iter().find(|input| input.name == name)
    }

    /// Reads the bytes, and sees to the limits. Memory is counted where [`Counting`] is the program's allocator.
    ///
    /// # Panics
    /// If the input panics, or a limit is exceeded.
    pub fn try_out(&self, bytes: &[u8]) {
        let (before, began) = (HELD.get(), processor_time());
        PEAK.set(before);
        (self.read)(bytes);
        let held = PEAK.get().saturating_sub(before);
        let took = processor_time().saturating_sub(began);
        assert!(held <= MEMORY_LIMIT as isize, "{}: {held} bytes held for {} bytes", self.name, bytes.len());
        assert!(took <= TIME_LIMIT, "{}: {took:?} for {} bytes", self.name, bytes.len());
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

thread_local! {
    /// Bytes that this thread holds. Below zero where it frees what another has asked for.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most of them since the case began.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts per thread.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    fn count(change: isize) {
        // A thread that ends may free when its counters are gone.
        let _ = HELD.try_with(|held| {
            held.set(held.get() + change);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
        });
    }
}

// SAFETY: each call goes to the system's allocator as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        // SAFETY: what the caller promises us, we promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A case's bytes, taken from the front. What is not there any more is zero.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    /// The next two, as a number.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// So many of the next, or all that are left.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// All that is left, as text.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.rest()).into_owned()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::TestRunner;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// Edited cases of each input: some seconds in all. `P2P_FUZZ_CASES` asks for more.
    const CASES: u32 = 256;

    fn corpus(input: &Input) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(input.name);
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// What hands a reader over its edges more often than chance.
    const WORDS: [&[u8]; 12] = [
        b"\"",
        b"[",
        b"{",
        b"\\u0000",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00",
        b"-1",
        b"1e999",
        b"18446744073709551615",
        b"null",
        b"\xf0\x9f\x92\xa9",
        b"data:;base64,",
    ];

    #[derive(Debug, Clone)]
    enum Edit {
        Set(Index, u8),
        Remove(Index, usize),
        Insert(Index, u8),
        Repeat(Index, usize, usize),
        Word(Index, usize),
        Cut(Index),
    }

    impl Edit {
        fn apply(&self, bytes: &mut Vec<u8>) {
            let place = |index: &Index, length: usize| index.index(length + 1);
            match self {
                Self::Set(at, value) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = *value;
                }
                Self::Set(..) => {}
                Self::Remove(at, length) => {
                    let at = place(at, bytes.len());
                    bytes.drain(at..bytes.len().min(at + length));
                }
                Self::Insert(at, value) => bytes.insert(place(at, bytes.len()), *value),
                Self::Repeat(at, length, times) => {
                    let at = place(at, bytes.len());
                    let piece = bytes[at..bytes.len().min(at + length)].repeat(*times);
                    bytes.splice(at..at, piece);
                }
                Self::Word(at, word) => {
                    let at = place(at, bytes.len());
                    bytes.splice(at..at, WORDS[*word].iter().copied());
                }
                Self::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            }
        }
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Edit::Set(at, value)),
            2 => (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
            2 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Edit::Insert(at, value)),
            2 => (any::<Index>(), 1..60_usize, 1..50_usize)
                .prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
            3 => (any::<Index>(), 0..WORDS.len()).prop_map(|(at, word)| Edit::Word(at, word)),
            1 => any::<Index>().prop_map(Edit::Cut),
        ]
    }

    fn edited(name: &str) {
        let input = Input::find(name).unwrap();
        let corpus = corpus(input);
        let cases =
            std::env::var("P2P_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
        let mut runner =
            TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
        let strategy = (any::<Index>(), prop::collection::vec(edit(), 1..6));
        let outcome = runner.run(&strategy, |(at, edits)| {
            let mut bytes = corpus[at.index(corpus.len())].clone();
            edits.iter().for_each(|edit| edit.apply(&mut bytes));
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]).into_owned();
            catch_unwind(|| input.try_out(&bytes)).map_err(|_| TestCaseError::fail(shown))
        });
        if let Err(error) = outcome {
            panic!("{name}: {error}");
        }
    }

    #[test]
    fn every_input_reads_all_of_its_corpus() {
        for input in &INPUTS {
            let corpus = corpus(input);
            assert!(corpus.len() >= 4, "{}: {} cases", input.name, corpus.len());
            corpus.iter().for_each(|bytes| input.try_out(bytes));
            input.try_out(&[]);
        }
    }

    macro_rules! edited {
        ($($test:ident: $name:literal,)+) => {
            $(#[test] fn $test() { edited($name); })+

            #[test]
            fn every_input_is_edited() {
                assert_eq!([$($name),+], INPUTS.map(|input| input.name));
            }
        };
    }

    edited! {
        edited_relay_frames: "relay-frames",
        edited_events: "event",
        edited_nip44_payloads: "nip44",
        edited_wraps: "wrap",
        edited_session_frames: "session-frame",
        edited_addresses: "address",
        edited_payloads: "payload",
        edited_batches: "batch",
        edited_deliveries: "delivery",
        edited_texts: "text",
        edited_ipc_lines: "ipc-line",
        edited_settings: "settings",
        edited_relay_clients: "relay-client",
    }

    #[test]
    fn a_case_that_takes_too_much_is_found() {
        fn greedy(bytes: &[u8]) {
            drop(Vec::<u8>::with_capacity(MEMORY_LIMIT + bytes.len()));
        }
        fn slow(_: &[u8]) {
            let began = processor_time();
            while processor_time() - began <= TIME_LIMIT {}
        }
        for (name, read) in [("greedy", greedy as fn(&[u8])), ("slow", slow)] {
            assert!(catch_unwind(|| Input { name, read }.try_out(b"x")).is_err(), "{name}");
        }
        catch_unwind(|| Input { name: "modest", read: |_| drop(vec![0_u8; MEMORY_LIMIT / 2]) }.try_out(b""))
            .unwrap();
    }
}
