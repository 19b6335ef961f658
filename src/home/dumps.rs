//! No core dump of a process that has the key in its memory.

use rustix::process::{Resource, Rlimit, setrlimit};

/// From here on this process leaves no core dump. On Linux its memory, environment and open files are also closed to
/// other processes of its user (`PR_SET_DUMPABLE`, proc(5)), and to debuggers but root's.
///
/// The limit alone would not do: where `core_pattern` names a program, the kernel hands it the dump whatever the limit
/// says (core(5)). A program that this process starts has the limit, and is dumpable again.
pub fn forbid_core_dumps() {
    // Where it cannot be forbidden, nothing else depends on it.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
