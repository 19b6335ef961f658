//! libFuzzer on one input of `p2p_comm::fuzz`, which `P2P_FUZZ_INPUT` names. Built and run by `make fuzz`.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use p2p_comm::fuzz::{Counting, Input};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static INPUT: OnceLock<&'static Input> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("P2P_FUZZ_INPUT").expect("P2P_FUZZ_INPUT names an input");
        INPUT.set(Input::find(&name).expect("an input of src/fuzz.rs")).expect("once");
    },
    |bytes: &[u8]| INPUT.get().expect("set at the start").try_out(bytes)
);
