//! Memory that a start has needed and a daemon that waits does not: most of it is code, which the kernel maps in by 64 KiB
//! around what is run, and keeps there.

use std::time::Duration;

/// After how long the start is over, and the daemon has found its pace.
const SETTLED: Duration = Duration::from_secs(5);

/// Gives back, once, what the start has mapped in of this program. What is needed again comes from the kernel's cache of
/// the file, not from the disk. Does nothing where the system does not tell what is mapped.
pub(super) async fn give_back_start() {
    tokio::time::sleep(SETTLED).await;
    #[cfg(target_os = "linux")]
    linux::give_back();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::ops::Range;

    use rustix::mm::{Advice, madvise};

    /// A part of a file that is mapped in.
    #[derive(Debug, PartialEq, Eq)]
    struct Mapping {
        place: Range<usize>,
        path: String,
        /// Nobody can write to it, and nobody has: what is there is what is in the file.
        is_as_on_disk: bool,
    }

    pub(super) fn give_back() {
        let Ok(text) = fs::read_to_string("/proc/self/smaps") else { return };
        let mappings = parse(&text);
        let here = give_back as fn() as usize;
        let Some(own) = mappings.iter().find(|mapping| mapping.place.contains(&here)) else { return };
        let own = mappings.iter().filter(|mapping| mapping.path == own.path && mapping.is_as_on_disk);
        for Mapping { place, .. } in own {
            #[expect(unsafe_code, reason = "memory is given back by its address")]
            // SAFETY: this program's own file, which is mapped as long as its code runs. The mapping is private, cannot
            // be written to and holds no page of its own, so that each is read from the file again when it is needed.
            let given = unsafe { madvise(place.start as *mut _, place.len(), Advice::LinuxDontNeed) };
            if let Err(error) = given {
                tracing::debug!(%error, "memory is not given back");
            }
        }
    }

    /// Reads `/proc/<pid>/smaps` (proc_pid_smaps(5)).
    fn parse(text: &str) -> Vec<Mapping> {
        let mut mappings: Vec<Mapping> = Vec::new();
        for line in text.lines() {
            if let Some(mapping) = head(line) {
                mappings.push(mapping);
            } else if let Some(mapping) = mappings.last_mut()
                && let Some(own) = line.strip_prefix("Anonymous:")
            {
                mapping.is_as_on_disk &= own.trim() == "0 kB";
            }
        }
        mappings
    }

    /// `55d0c0a00000-55d0c0a8f000 r-xp 0002f000 fe:00 1234   /usr/bin/p2p-comm`
    fn head(line: &str) -> Option<Mapping> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let address = |hex| usize::from_str_radix(hex, 16).ok();
        let is_as_on_disk = matches!(fields.next()?, "r-xp" | "r--p");
        let path = fields.nth(3)?.trim_start().to_owned();
        Some(Mapping { place: address(start)?..address(end)?, path, is_as_on_disk })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_what_is_as_it_is_in_the_file_counts_as_such() {
            let text = "\
7f10-7f20 r-xp 00002000 fe:00 247282                     /opt/a b/p2p-comm
Size:                 24 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f20-7f30 r-xp 00004000 fe:00 247282                     /opt/a b/p2p-comm
Anonymous:             4 kB
7f30-7f40 rw-p 00006000 fe:00 247282                     /opt/a b/p2p-comm
Anonymous:             0 kB
7f40-7f50 rw-p 00000000 00:00 0 
Anonymous:            64 kB
";
            let mapping = |start, path: &str, is_as_on_disk| Mapping {
                place: start..start + 0x10,
                path: path.to_owned(),
                is_as_on_disk,
            };
            let own = "/opt/a b/p2p-comm";
            let expected = [
                mapping(0x7f10, own, true),
                mapping(0x7f20, own, false),
                mapping(0x7f30, own, false),
                mapping(0x7f40, "", false),
            ];
            assert_eq!(parse(text), expected);
        }

        /// KiB of this program's code that are mapped in.
        fn resident() -> usize {
            let text = fs::read_to_string("/proc/self/smaps").unwrap();
            let here = give_back as fn() as usize;
            let mut lines = text
                .lines()
                .skip_while(|line| head(line).is_none_or(|mapping| !mapping.place.contains(&here)));
            let line = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        }

        #[test]
        fn what_was_run_once_is_given_back_and_runs_again() {
            let told = || parse(&fs::read_to_string("/proc/self/smaps").unwrap()).len();
            assert!(told() > 0);
            let before = resident();
            give_back();
            assert!(resident() < before, "{before} KiB before");
            assert!(told() > 0);
        }
    }
}
